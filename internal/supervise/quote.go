// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kballard/go-shellquote"
)

// SplitCommand splits a command into its arguments by the quoting rules of a
// POSIX shell: blanks separate, single quotes keep everything, in double quotes a
// backslash escapes only \ " $ ` and newline. Nothing is expanded: what a shell
// would interpret (variables, globs, redirections, operators) is taken literally.
func SplitCommand(s string) ([]string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, errors.New("command holds a NUL byte")
	}
	args, err := shellquote.Split(s)
	switch {
	case errors.Is(err, shellquote.UnterminatedEscapeError):
		return nil, fmt.Errorf("command %q ends in a backslash", s)
	case errors.Is(err, shellquote.UnterminatedSingleQuoteError):
		return nil, fmt.Errorf("command %q: quote ' is not closed", s)
	case errors.Is(err, shellquote.UnterminatedDoubleQuoteError):
		return nil, fmt.Errorf("command %q: quote \" is not closed", s)
	case err != nil:
		return nil, fmt.Errorf("command %q: %w", s, err)
	case len(args) == 0:
		return nil, errors.New("command is empty")
	}
	return args, nil
}
