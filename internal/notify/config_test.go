// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/config"
)

func TestFromConfig(t *testing.T) {
	c, err := config.Parse("test.yaml", []byte(`
notify:
  journald: {min_severity: warning}
  webhook:
    - {url: "https://h/x", min_severity: critical, hmac_secret_file: /etc/key, timeout: 3s, template: "{{.Text}}"}
    - {url: "http://h/y", format: slack, events: [orphan, leak]}
  exec:
    - {command: [/bin/page, "a,b"], timeout: 5s}
metrics: {listen: "127.0.0.1:9733"}
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromConfig(c, "/run/s")
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Journald: SeverityWarning, PerUser: DefaultPerUser,
		Webhooks: []Webhook{{URL: "https://h/x", MinSeverity: SeverityCritical, HMACSecretFile: "/etc/key", Timeout: 3 * time.Second, Template: "{{.Text}}",
			Events: config.DefaultNotifyEvents},
			{URL: "http://h/y", Format: FormatSlack, Events: []string{"orphan", "leak"}, Timeout: got.Webhooks[1].Timeout}},
		Exec:    []Exec{{Command: []string{"/bin/page", "a,b"}, Timeout: 5 * time.Second, Events: config.DefaultNotifyEvents, Name: "exec[0]"}},
		Metrics: &MetricsProxy{Listen: "127.0.0.1:9733", Socket: "/run/s"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	c, err = config.Parse("test.yaml", []byte(`
notify: {events: [oom], exec: [{command: [/bin/a]}, {command: [/bin/b], events: [kill]}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err = FromConfig(c, ""); err != nil || got.Exec[0].Events[0] != "oom" || got.Exec[1].Events[0] != "kill" {
		t.Errorf("for all, and for one: %+v, %v", got.Exec, err)
	}
	if _, err := FromConfig(config.Default(), ""); err != nil {
		t.Errorf("the default configuration: %v", err)
	}
}
