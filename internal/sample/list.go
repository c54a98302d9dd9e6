// SPDX-License-Identifier: Apache-2.0

package sample

import "github.com/abot-trace/abot-trace/internal/event"

// List is a TaskSource made of a function that returns all tasks at once, as the
// probe's Tasks does.
type List func() ([]event.Task, error)

// Tasks implements [TaskSource].
func (l List) Tasks(yield func(event.Task)) error {
	tasks, err := l()
	if err != nil {
		return err
	}
	for i := range tasks {
		yield(tasks[i])
	}
	return nil
}
