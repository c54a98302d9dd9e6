// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// A body for Slack's incoming webhooks, which Mattermost and others take as well: see
// https://api.slack.com/reference/block-kit/blocks.

// What Slack takes, in characters; a longer text is refused with the whole message.
const (
	maxSlackText  = 3000
	maxSlackField = 2000
	maxFields     = 10
)

type slackMessage struct {
	Text   string       `json:"text"` // for notifications, and for who knows no blocks
	Blocks []slackBlock `json:"blocks"`
}

type slackBlock struct {
	Type     string      `json:"type"`
	Text     *slackText  `json:"text,omitempty"`
	Fields   []slackText `json:"fields,omitempty"`
	Elements []slackText `json:"elements,omitempty"`
}

type slackText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// plain is text in which nothing is markup: names that processes chose mention nobody and
// link to nowhere.
func plain(s string, most int) slackText {
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-3]) + "..."
	}
	return slackText{"plain_text", s}
}

// unmarked takes the meaning from what is markup in the fallback text.
var unmarked = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackBody(n *notify.Notice) ([]byte, error) {
	head := plain(n.Text, maxSlackText)
	m := slackMessage{Text: unmarked.Replace(head.Text), Blocks: []slackBlock{{Type: "section", Text: &head}}}
	if n.Event.Leak != nil {
		var fields []slackText
		for _, f := range notify.LeakFacts(n.Event.Leak) {
			fields = append(fields, plain(f.Name+": "+f.Value, maxSlackField))
		}
		m.Blocks = append(m.Blocks, slackBlock{Type: "section", Fields: fields[:min(len(fields), maxFields)]})
	}
	m.Blocks = append(m.Blocks, slackBlock{Type: "context", Elements: []slackText{
		plain(n.Host+", "+n.Severity.String()+", "+n.Event.Time.Format("2006-01-02 15:04:05 MST"), maxSlackField)}})
	return json.Marshal(m)
}
