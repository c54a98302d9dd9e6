// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOverride has a drop-in change rules of the main file.
func TestOverride(t *testing.T) {
	const main = `
enforce: [gone]
rules:
  - name: stale
    match: {verdict: [leaked], user: [alice, bob], unit: "web*.service"}
    orphaned_for: 24h
    for: 30s
    grace: 10s
  - {name: gone, match: {verdict: [leaked]}}
  - {name: other, match: {verdict: [leaked]}, orphaned_for: 1h}
`
	load := func(dropIn string) (*Config, error) {
		t.Helper()
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"config.yaml": main, "conf.d/site.yaml": dropIn} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return Load(filepath.Join(dir, "config.yaml"), Options{})
	}
	c, err := load(`
enforce: [stale]
override:
  - {name: stale, match: {user: [carol]}, orphaned_for: 6h, grace: 1s}
  - {name: gone, off: true}
  - {name: gone, grace: 1s}
  - {name: other, off: false, scope: process}
`)
	if err != nil {
		t.Fatal(err)
	}
	rules, _ := c.Policy()
	if len(rules) != 2 || rules[0].Name != "stale" || rules[1].Name != "other" {
		t.Fatalf("rules: %+v", rules)
	}
	stale := rules[0]
	if users, _ := stale.Match["user"].([]string); !slices.Equal(users, []string{"carol"}) {
		t.Errorf("user: %v", stale.Match["user"])
	}
	if stale.Match["orphaned_for"] != 6*time.Hour || stale.Match["unit"] == nil || stale.For != 30*time.Second || stale.Grace != time.Second ||
		stale.Mode != "enforce" || !slices.Equal(stale.Verdict, []string{"leaked"}) {
		t.Errorf("stale: %+v", stale)
	}
	if rules[1].Scope != "process" || rules[1].Match["orphaned_for"] != time.Hour || rules[1].Mode == "enforce" {
		t.Errorf("other: %+v", rules[1])
	}

	for dropIn, want := range map[string]string{
		"override: [{name: stail, grace: 1s}]":                         `override: no rule is named "stail"`,
		"override: [{grace: 1s}]":                                      "an override without the name of a rule",
		"override: [{name: stale, mode: enforce}]":                     `unknown key "mode" in override[1]`,
		"override: [{name: stale, off: maybe}]":                        `override[1].off: "maybe": want true or false`,
		"override: [{name: stale, match: {unit: '['}}]":                "site.yaml:1:",
		"override: [{name: gone, off: true}, {name: gome, off: true}]": `no rule is named "gome"`,
	} {
		if _, err := load(dropIn); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", dropIn, err)
		}
	}
}
