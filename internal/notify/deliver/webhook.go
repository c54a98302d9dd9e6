// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/notify/template"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// Bounds of one webhook delivery.
const (
	attempts    = 6
	firstPause  = time.Second
	longest     = time.Minute
	maxBody     = 256 << 10 // of ours
	maxAnswer   = 64 << 10  // that is read of theirs
	maxSecret   = 4 << 10
	headerEvent = "X-Abot-Event-Id"
	headerTime  = "X-Abot-Timestamp"
	headerSign  = "X-Abot-Signature"
)

// webhook posts notices to one address.
type webhook struct {
	label    string
	settings notify.Webhook
	host     string // for messages: the address itself may hold a secret in its path
	template *template.Template
	client   *http.Client
	secret   []byte
	pause    time.Duration // before the second attempt
	now      func() time.Time
}

func newWebhook(label string, s notify.Webhook) (*webhook, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	w := &webhook{label: label, settings: s, pause: firstPause, now: time.Now}
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, fmt.Errorf("%s: url cannot be parsed", label)
	}
	w.host = u.Host
	if s.Template != "" {
		if w.template, err = template.Parse(s.Template); err != nil {
			return nil, fmt.Errorf("%s: template: %w", label, err)
		}
	}
	if s.HMACSecretFile != "" {
		if w.secret, err = readSecret(s.HMACSecretFile, s.OwnSecret); err != nil {
			return nil, fmt.Errorf("%s: secret: %w", label, err)
		}
	}
	timeout := s.Timeout
	if timeout == 0 {
		timeout = notify.DefaultTimeout
	}
	w.client = &http.Client{Timeout: timeout, CheckRedirect: sameHost, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
	}}
	return w, nil
}

// readSecret reads a key, without the line end that editors leave. The key is root's to
// set, but for who tries notices for himself.
func readSecret(path string, own bool) ([]byte, error) {
	rule := rootfile.Root
	if own {
		rule = rootfile.Own
	}
	f, err := rule.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return nil, err
	}
	if key = bytes.TrimRight(key, "\r\n"); len(key) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return key, nil
}

var errRedirect = errors.New("redirected to another host")

// sameHost follows a few redirects, never to another host or from https to http: a
// notice and its signature are for the configured receiver alone.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > 3 {
		return errors.New("redirected too often")
	}
	first := via[0].URL
	if next.URL.Host != first.Host || first.Scheme == "https" && next.URL.Scheme != "https" {
		return errRedirect
	}
	return nil
}

// deliver tries several times while the receiver may recover.
func (w *webhook) deliver(ctx context.Context, n *notify.Notice) error {
	body, err := w.body(n)
	if err != nil {
		return err
	}
	pause := w.pause
	for try := 1; ; try++ {
		wait, err := w.post(ctx, n, body)
		if err == nil {
			return nil
		}
		if wait < 0 || try == attempts || ctx.Err() != nil {
			return fmt.Errorf("%s, attempt %d: %w", w.host, try, err)
		}
		// Half of the pause is chance, so that many hosts do not come back at once.
		jittered := pause/2 + rand.N(pause/2+1)
		if !sleep(ctx, max(wait, jittered)) {
			return fmt.Errorf("%s, attempt %d: %w", w.host, try, err)
		}
		pause = min(2*pause, longest)
	}
}

// sleep waits; false means that ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *webhook) body(n *notify.Notice) ([]byte, error) {
	switch {
	case w.settings.Format == notify.FormatSlack:
		return slackBody(n)
	case w.template == nil:
		return json.Marshal(n)
	}
	out := limitedBuffer{limit: maxBody}
	err := w.template.Execute(&out, &template.Notice{Host: n.Host, Severity: n.Severity.String(), Text: n.Text, Event: &n.Event})
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if out.cut {
		return nil, fmt.Errorf("template: more than %d bytes", maxBody)
	}
	return out.data, nil
}

// permanent means not to try again.
const permanent = time.Duration(-1)

// post makes one attempt. The time is what the receiver asks to wait for.
func (w *webhook) post(ctx context.Context, n *notify.Notice, body []byte) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.settings.URL, bytes.NewReader(body))
	if err != nil {
		return permanent, withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "abot-trace")
	req.Header.Set(headerEvent, n.Event.ID)
	if w.secret != nil {
		stamp := strconv.FormatInt(w.now().Unix(), 10)
		req.Header.Set(headerTime, stamp)
		req.Header.Set(headerSign, "sha256="+sign(w.secret, stamp, body))
	}
	resp, err := w.client.Do(req)
	if errors.Is(err, errRedirect) {
		return permanent, errRedirect
	}
	if err != nil {
		return 0, withoutURL(err)
	}
	defer resp.Body.Close()
	// A little is read so that the connection can be used again; the rest of a huge
	// answer is not.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return verdict(resp)
}

// sign is the signature over the time and the body: a receiver that checks both
// cannot be fed an old notice.
func sign(secret []byte, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// verdict reads the status: what a later attempt may change is worth one.
func verdict(resp *http.Response) (time.Duration, error) {
	code := resp.StatusCode
	err := fmt.Errorf("status %d", code)
	switch {
	case code >= 200 && code < 300:
		return 0, nil
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return min(max(0, time.Duration(seconds)*time.Second), longest), err
	case code >= 500 || code == http.StatusRequestTimeout:
		return 0, err
	default:
		return permanent, err
	}
}

// withoutURL takes the address out of an error: its path or query may be a secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// limitedBuffer keeps the first bytes and drops the rest. It has no other method
// that writes: io.Copy would prefer a ReadFrom, which knows no limit.
type limitedBuffer struct {
	data  []byte
	limit int
	cut   bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := b.limit - len(b.data)
	b.cut = b.cut || len(p) > room
	b.data = append(b.data, p[:min(room, len(p))]...)
	return len(p), nil
}
