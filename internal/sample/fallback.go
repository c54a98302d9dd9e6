// SPDX-License-Identifier: Apache-2.0

package sample

import "github.com/abot-trace/abot-trace/internal/event"

// Fallback asks first, and second where that fails. tell is called with the error when
// first begins to fail, and with nil when it works again. First must yield nothing
// before it is sure not to fail. One goroutine uses it.
func Fallback(first, second TaskSource, tell func(error)) TaskSource {
	return &fallback{first: first, second: second, tell: tell}
}

type fallback struct {
	first, second TaskSource
	tell          func(error)
	failing       bool
}

func (f *fallback) Tasks(yield func(event.Task)) error {
	err := f.first.Tasks(yield)
	if failing := err != nil; failing != f.failing {
		f.failing = failing
		f.tell(err)
	}
	if err == nil {
		return nil
	}
	return f.second.Tasks(yield)
}
