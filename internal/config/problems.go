// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// Problems looks at what a valid configuration names and cannot be used at present, one
// sentence each. The daemon goes on without.
func (c *Config) Problems() []string {
	var list []string
	for i, w := range c.Notify.Webhook {
		if w.HMACSecretFile.Value == "" {
			continue
		}
		f, err := rootfile.Root.Open(w.HMACSecretFile.Value)
		if err != nil {
			list = append(list, fmt.Sprintf("notify.webhook[%d].hmac_secret_file %s: %v", i, w.HMACSecretFile.Value, err))
			continue
		}
		f.Close()
	}
	return list
}

// NotToldOfOrphans names the webhooks and commands that say nothing of events and so are told
// of leaks, as a whole, and no more of every orphan.
func (c *Config) NotToldOfOrphans() (list []string) {
	if len(c.Notify.Events) > 0 {
		return nil
	}
	for i, w := range c.Notify.Webhook {
		if len(w.Events) == 0 {
			list = append(list, fmt.Sprintf("notify.webhook[%d]", i))
		}
	}
	for i, e := range c.Notify.Exec {
		if len(e.Events) == 0 {
			list = append(list, fmt.Sprintf("notify.exec[%d]", i))
		}
	}
	return list
}
