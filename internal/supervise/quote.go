// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"strings"
)

// SplitCommand splits a command into its arguments by the quoting rules of a
// POSIX shell: blanks separate, single quotes keep everything, in double quotes a
// backslash escapes only \ " $ ` and newline. Nothing is expanded: what a shell
// would interpret (variables, globs, redirections, operators) is taken literally.
func SplitCommand(s string) ([]string, error) {
	var sp splitter
	for _, c := range []byte(s) {
		sp.next(c)
	}
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return nil, errors.New("command holds a NUL byte")
	case sp.escaped:
		return nil, fmt.Errorf("command %q ends in a backslash", s)
	case sp.quote != 0:
		return nil, fmt.Errorf("command %q: quote %c is not closed", s, sp.quote)
	}
	sp.flush()
	if len(sp.args) == 0 {
		return nil, errors.New("command is empty")
	}
	return sp.args, nil
}

// splitter is the state between two bytes.
type splitter struct {
	args    []string
	arg     []byte
	inArg   bool
	quote   byte // ' or " or 0
	escaped bool
}

func (sp *splitter) next(c byte) {
	switch {
	case sp.escaped:
		sp.escaped = false
		sp.escape(c)
	case c == '\\' && sp.quote != '\'':
		sp.escaped = true
	case sp.quote != 0 && c == sp.quote:
		sp.quote = 0
	case sp.quote != 0:
		sp.arg = append(sp.arg, c)
	case c == '\'' || c == '"':
		sp.quote, sp.inArg = c, true
	case c == ' ' || c == '\t' || c == '\n':
		sp.flush()
	default:
		sp.arg, sp.inArg = append(sp.arg, c), true
	}
}

// escape takes the byte after a backslash; an escaped newline vanishes.
func (sp *splitter) escape(c byte) {
	if c == '\n' {
		return
	}
	if sp.quote == '"' && !strings.ContainsRune("\\\"$`", rune(c)) {
		sp.arg = append(sp.arg, '\\')
	}
	sp.arg, sp.inArg = append(sp.arg, c), true
}

func (sp *splitter) flush() {
	if sp.inArg {
		sp.args = append(sp.args, string(sp.arg))
	}
	sp.arg, sp.inArg = nil, false
}
