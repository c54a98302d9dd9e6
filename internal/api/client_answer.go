// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxAnswer is more than the tree of half a million processes takes. The daemon may run as
// another user than root: its answer is not to take all the memory of root's command.
const maxAnswer = 1 << 30

// decode reads an answer to its end, as one document: neither null nor of more than maxAnswer.
func decode[T any](c *Client, body io.Reader) (out T, err error) {
	answer := io.LimitedReader{R: body, N: c.maxAnswer}
	err = jsonv2.UnmarshalRead(&answer, &out)
	switch {
	case answer.N <= 0:
		return out, c.tooLong()
	case err != nil:
		return out, c.unreadable(err)
	}
	if v := reflect.ValueOf(out); v.Kind() == reflect.Pointer && v.IsNil() {
		return out, fmt.Errorf("answer of %s: null", c.socket)
	}
	return out, nil
}

// refusal is the error that an answer other than 200 holds.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	var answer struct {
		Error string `json:"error"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer) != nil || answer.Error == "" {
		answer.Error = resp.Status
	}
	return &StatusError{resp.StatusCode, answer.Error}
}

// tooLong is the error of an answer of more than maxAnswer.
func (c *Client) tooLong() error {
	return fmt.Errorf("answer of %s: more than %d bytes", c.socket, c.maxAnswer)
}

// unreadable says why an answer could not be read.
func (c *Client) unreadable(err error) error {
	var silent *UnansweredError
	if errors.As(err, &silent) {
		return silent
	}
	return fmt.Errorf("answer of %s: %w", c.socket, err)
}

// orphans refuses a list with a process that has no Orphan.
func (c *Client) orphans(list []wire.Process, err error) ([]wire.Process, error) {
	if err == nil && slices.ContainsFunc(list, func(p wire.Process) bool { return p.Orphan == nil }) {
		return nil, fmt.Errorf("answer of %s: a process that is no orphan", c.socket)
	}
	return list, err
}

// leaks refuses an answer that is not of the one leak, where an id asks for one.
func (c *Client) leaks(doc *wire.Leaks, err error, id string) (*wire.Leaks, error) {
	if err == nil && id != "" && len(doc.Leaks) != 1 {
		return nil, fmt.Errorf("answer of %s: %d leaks for %s", c.socket, len(doc.Leaks), id)
	}
	return doc, err
}
