// SPDX-License-Identifier: Apache-2.0

// Package template makes the bodies of webhooks. It stands apart so that the
// configuration can check a template without knowing how it is delivered.
package template

import (
	"encoding/json"
	texttemplate "text/template"
)

// Parse returns the template of a webhook's body. It has one function more
// than text/template: json, which quotes a value.
func Parse(text string) (*texttemplate.Template, error) {
	return texttemplate.New("webhook").Option("missingkey=error").
		Funcs(texttemplate.FuncMap{"json": toJSON}).Parse(text)
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
