// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// A pendingTarget is a target that is made when it is first needed, and again at every
// notice until that succeeds: what keeps one from being made, as a secret that cannot be
// read, concerns no other target, and may be mended meanwhile. One goroutine uses it.
type pendingTarget struct {
	label   string
	wants   func(notify.Severity, *notify.Event) bool
	create  func() (target, error)
	created target
	digest  digest
}

func (t *pendingTarget) name() string { return t.label }

// prepare makes the target where that is not done.
func (t *pendingTarget) prepare() error {
	if t.created != nil {
		return nil
	}
	created, err := t.create()
	if err != nil {
		return err
	}
	t.created = created
	return nil
}

func (t *pendingTarget) deliver(ctx context.Context, n *notify.Notice) error {
	if err := t.prepare(); err != nil {
		return err
	}
	return t.created.deliver(ctx, n)
}
