// SPDX-License-Identifier: Apache-2.0

// Package template makes the bodies of webhooks. It stands apart so that the
// configuration can check a template without knowing how it is delivered.
//
// A template sees Severity, Host and Text, and the notice by the names that its JSON has:
// severity, host, text and event with all below it. A name that the contract knows and this
// event does not have is nothing: it prints as nothing, does not hold in a condition, and
// so do all names below it. A name that the contract does not know is a fault of the
// template.
package template

import (
	"encoding/json"
	"fmt"
	"io"
	texttemplate "text/template"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// Notice is what a template makes a body of.
type Notice struct {
	Severity string      `json:"severity"`
	Host     string      `json:"host"`
	Text     string      `json:"text"`
	Event    *wire.Event `json:"event"`
}

// A Template makes the body of a webhook. It is safe for concurrent use.
type Template struct{ parsed *texttemplate.Template }

// Parse returns the template, which was rendered with every kind of event: one that it
// accepts does not fail over what an event has or lacks. It has one function more than
// text/template: json, which quotes a value.
func Parse(text string) (*Template, error) {
	parsed, err := texttemplate.New("webhook").Option("missingkey=zero").Funcs(texttemplate.FuncMap{"json": toJSON}).Parse(text)
	if err != nil {
		return nil, err
	}
	t := &Template{parsed}
	if text == "" {
		return t, nil
	}
	return t, t.check()
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// Execute writes the body for a notice.
func (t *Template) Execute(w io.Writer, n *Notice) error {
	data, err := dataOf(n)
	if err != nil {
		return err
	}
	return t.parsed.Execute(w, data)
}

// check renders an event with every name, where one that is missing is not known, and one
// of each kind with as little as it can have.
func (t *Template) check() error {
	strict, err := t.parsed.Clone()
	if err != nil {
		return err
	}
	if err := render(strict.Option("missingkey=error"), fullNotice()); err != nil {
		return err
	}
	for _, n := range bareNotices() {
		if err := render(t.parsed, n); err != nil {
			return fmt.Errorf("for an event of type %s: %w", n.Event.Type, err)
		}
	}
	return nil
}

func render(t *texttemplate.Template, n *Notice) error {
	data, err := dataOf(n)
	if err != nil {
		return err
	}
	return t.Execute(io.Discard, data)
}
