// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"os"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/notify"
)

// LoadConfig loads the configuration at path as the daemon takes it: the files are root's
// to write, the rules compile, the notices have targets that can be meant, and the group of
// the socket exists. Its error is a [config.Errors] where a file is at fault. For people
// who check what they wrote it is the daemon's own word.
func LoadConfig(path string) (*config.Config, error) {
	cfg, err := config.Load(path, config.Options{Trusted: true})
	if err != nil {
		return nil, err
	}
	if _, err := cfg.Engine(false); err != nil {
		return nil, err
	}
	if _, err := notify.FromConfig(cfg, api.DefaultSocket); err != nil {
		return nil, err
	}
	if group := cfg.Socket.Group; group.Value != "" {
		if err := api.CheckGroup(group.Value); err != nil {
			return nil, config.Errors{{Pos: group.At, Message: err.Error()}}
		}
	}
	return cfg, nil
}

// ownConfig is LoadConfig of the path that the daemon was given; without one the default
// file may be missing.
func ownConfig(path string) (*config.Config, error) {
	explicit := path != ""
	if !explicit {
		path = config.DefaultPath
	}
	cfg, err := LoadConfig(path)
	if err != nil && !explicit && errors.Is(err, os.ErrNotExist) {
		return config.Default(), nil
	}
	return cfg, err
}
