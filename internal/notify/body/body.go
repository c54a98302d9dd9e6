// SPDX-License-Identifier: Apache-2.0

// Package body makes the bodies of webhooks from templates. It stands apart so that the
// configuration can check a template without knowing how it is delivered.
package body

import (
	"encoding/json"
	"text/template"
)

// ParseTemplate returns the template of a webhook's body. It has one function more
// than text/template: json, which quotes a value.
func ParseTemplate(text string) (*template.Template, error) {
	return template.New("webhook").Option("missingkey=error").
		Funcs(template.FuncMap{"json": toJSON}).Parse(text)
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
