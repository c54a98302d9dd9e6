// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"regexp"
	"slices"
)

// trackerCode is the code that such a process is started with: by multiprocessing
// (semaphore_tracker before Python 3.8), loky, joblib's copy of it, or billiard.
var trackerCode = regexp.MustCompile(`^from [\w.]+\.(resource|semaphore)_tracker import main;? *main\(`)

// ResourceTracker reports whether args are those of the process that Python's
// multiprocessing, or a package of its kind, starts to unlink shared memory and semaphores when
// everybody who could is gone. It ignores SIGINT and SIGTERM and ends by itself then, at the end
// of file of a pipe; whoever kills it earlier leaks what it keeps track of. It is
// a Target with Last.
//
// Anyone can have such arguments. All that it gains is to die last.
func ResourceTracker(args []string) bool {
	code := slices.Index(args, "-c") + 1
	return code > 0 && code < len(args) && trackerCode.MatchString(args[code])
}
