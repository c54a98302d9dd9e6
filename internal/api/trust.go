// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TrustRequest is the body of POST /v1/trust.
type TrustRequest struct {
	Action      string  `json:"action"` // ack, ignore or forget
	Fingerprint string  `json:"fingerprint"`
	Name        string  `json:"name,omitempty"` // of a fingerprint that no known leak here has
	Reason      string  `json:"reason"`
	Seconds     float64 `json:"seconds,omitempty"` // how long an ack holds
}

// TrustAnswer is what was decided, and whether it outlives the daemon, or why it does not.
type TrustAnswer struct {
	wire.Trust
	Saved bool   `json:"saved"`
	Why   string `json:"why,omitempty"`
}

// Trust asks for all that was decided about fingerprints.
func (c *Client) Trust(ctx context.Context) ([]wire.Trust, error) {
	return get[[]wire.Trust](ctx, c, "/v1/trust", nil)
}

// Decide takes a decision about a fingerprint.
func (c *Client) Decide(ctx context.Context, req TrustRequest) (*TrustAnswer, error) {
	return Call[*TrustAnswer](ctx, c, http.MethodPost, "/v1/trust", nil, req)
}

// Rules asks what each rule may do, and has done.
func (c *Client) Rules(ctx context.Context) ([]wire.RuleStatus, error) {
	return get[[]wire.RuleStatus](ctx, c, "/v1/rules", nil)
}

// ReloadRequest is the body of POST /v1/reload. With an Action it is told that this arms or
// disarms a rule.
type ReloadRequest struct {
	Action string `json:"action,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Reload has the daemon take its configuration anew. An error says why it keeps the old one.
func (c *Client) Reload(ctx context.Context, req ReloadRequest) error {
	_, err := Call[struct{}](ctx, c, http.MethodPost, "/v1/reload", nil, req)
	return err
}
