// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"slices"
	"strings"
)

// ResourceTracker reports whether args are those of the process that Python's
// multiprocessing starts to unlink shared memory and semaphores when everybody who
// could is gone. It ignores SIGINT and SIGTERM and ends by itself then, at the end
// of file of a pipe; whoever kills it earlier leaks what it keeps track of. It is
// a Target with Last.
//
// Anyone can have such arguments. All that it gains is to die last.
func ResourceTracker(args []string) bool {
	code := slices.Index(args, "-c") + 1
	return code > 0 && code < len(args) &&
		strings.HasPrefix(args[code], "from multiprocessing.resource_tracker import main")
}
