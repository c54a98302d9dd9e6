// SPDX-License-Identifier: Apache-2.0

package template

import (
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func alertNotice() *Notice {
	return &Notice{Severity: "warning", Host: "h", Text: "memory is warning", Event: &wire.Event{Schema: 1, ID: "e-1", Type: wire.TypeAlert,
		Time: time.Unix(5, 0).UTC(), TimeNS: 1 << 60, Alert: &wire.Alert{Name: "memory", State: wire.AlertWarning}}}
}

func orphanNotice() *Notice {
	rss := uint64(1 << 40)
	return &Notice{Severity: "info", Host: "h", Text: "an orphan", Event: &wire.Event{Schema: 1, Type: wire.TypeOrphan,
		Process: &wire.Process{PID: 7, Comm: "sl\"ep", Cmdline: []string{"sleep", "5"}, RSSBytes: &rss,
			Orphan: &wire.Orphan{Verdict: wire.VerdictLeaked, Leaker: &wire.Leaker{PID: 6, Comm: "sh"}}}}}
}

func TestExecute(t *testing.T) {
	for _, tt := range []struct{ text, alert, orphan string }{
		{`{{.Severity}} {{.Host}} {{.Text}}`, "warning h memory is warning", "info h an orphan"},
		{`{{.severity}} {{.host}} {{.text}}`, "warning h memory is warning", "info h an orphan"},
		{`{{.event.type}} {{.event.time_ns}}`, "alert 1152921504606846976", "orphan 0"},
		{`{{json .event.process.comm}}`, "null", `"sl\"ep"`},
		{`[{{.event.process.pid}}|{{.event.process.orphan.leaker.comm}}|{{.event.alert.name}}]`, "[||memory]", "[7|sh|]"},
		{`{{with .event.process}}{{.comm}}{{else}}none{{end}}`, "none", `sl"ep`},
		{`{{if .event.alert}}alert{{end}}`, "alert", ""},
		{`{{range .event.process.cmdline}}<{{.}}>{{end}}`, "", "<sleep><5>"},
		{`{{if .event.process.rss_bytes}}{{if gt .event.process.rss_bytes 1000}}large{{end}}{{end}}`, "", "large"},
		{`{{json .event.alert}}`, `{"`, "null"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			parsed, err := Parse(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			for n, want := range map[*Notice]string{alertNotice(): tt.alert, orphanNotice(): tt.orphan} {
				var b strings.Builder
				if err := parsed.Execute(&b, n); err != nil || b.String() != want && !(want == `{"` && strings.HasPrefix(b.String(), want)) {
					t.Errorf("%s: got %q %v, want %q", n.Event.Type, b.String(), err, want)
				}
			}
		})
	}
}

// TestParseRefuses holds the faults that would otherwise show at the first notice of some
// kind, perhaps months later.
func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{{.Nope}}`:                            "Nope",
		`{{.event.nope}}`:                      "nope",
		`{{.event.process.PID}}`:               "PID",
		`{{.Event.Type}}`:                      "Event",
		`{{if .event.alert}}{{.nope}}{{end}}`:  "nope",
		`{{with .event.process}}{{.x}}{{end}}`: "x",
		`{{.Text`:                              "unclosed action",
		`{{gt .event.process.pid 5}}`:          "for an event of type",
		`{{index .event.process.cmdline 0}}`:   "for an event of type",
		`{{nope .Text}}`:                       `function "nope" not defined`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that says %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"text": {{json (printf "[%s] %s: %s" .Severity .Host .Text)}}}`)
	f.Add(`{{range .event.process.cmdline}}{{.}}{{end}}`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			return
		}
		var b strings.Builder
		if err := parsed.Execute(&b, alertNotice()); err != nil && !strings.Contains(err.Error(), "template") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
