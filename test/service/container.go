// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/abot-trace/abot-trace/test/debian"
)

// A container is a guest under this machine's own kernel.
type container struct{ debian.Container }

func (c *container) boot(ctx context.Context) error { return c.Start(ctx) }
func (c *container) ended() <-chan struct{}         { return c.Done() }
func (c *container) patience() time.Duration        { return 2 * time.Minute }
func (c *container) stop(ctx context.Context)       { c.Stop(ctx) }

func (c *container) enter(ctx context.Context, stdin string, argv ...string) (stdout, stderr []byte, err error) {
	return c.Enter(ctx, stdin, argv...)
}
