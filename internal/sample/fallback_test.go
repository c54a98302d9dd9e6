// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/abot-trace/abot-trace/internal/event"
)

func TestFallback(t *testing.T) {
	refused, gone := errors.New("refused"), errors.New("gone")
	var firstErr, secondErr error
	source := func(pid int32, err *error) TaskSource {
		return TaskFunc(func(yield func(event.Task)) error {
			if *err == nil {
				yield(event.Task{ID: event.ID{PID: pid}})
			}
			return *err
		})
	}
	var told []error
	f := Fallback(source(1, &firstErr), source(2, &secondErr), func(err error) { told = append(told, err) })
	for _, step := range []struct {
		name          string
		first, second error
		want          []int32
		err           error
		told          []error
	}{
		{"well", nil, nil, []int32{1}, nil, nil},
		{"the first fails", refused, nil, []int32{2}, nil, []error{refused}},
		{"it still does", refused, nil, []int32{2}, nil, nil},
		{"both fail", refused, gone, nil, gone, nil},
		{"well again", nil, gone, []int32{1}, nil, []error{nil}},
	} {
		firstErr, secondErr, told = step.first, step.second, nil
		var got []int32
		err := f.Tasks(func(task event.Task) { got = append(got, task.ID.PID) })
		if !errors.Is(err, step.err) || !cmp.Equal(got, step.want) || !cmp.Equal(told, step.told, cmpopts.EquateErrors()) {
			t.Errorf("%s: %v, error %v, told %v; want %v, %v, %v", step.name, got, err, told, step.want, step.err, step.told)
		}
	}
}
