// SPDX-License-Identifier: Apache-2.0

package safetext

import "strings"

// Args returns a command line as one line of printable text in which the borders
// between arguments show: what a shell would split is quoted, and an argument
// with unprintable characters stands in bash's $'...'. It does not hide secrets:
// pass it what [Redact] returned.
func Args(args []string) string { return string(AppendArgs(nil, args)) }

// AppendArgs appends to b what Args returns.
func AppendArgs(b []byte, args []string) []byte {
	for i, arg := range args {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendArg(b, arg)
	}
	return b
}

func appendArg(b []byte, arg string) []byte {
	if plain(arg) {
		return append(b, arg...)
	}
	if safe := Terminal(arg); safe == arg {
		b = append(b, '\'')
		b = append(b, strings.ReplaceAll(arg, "'", `'\''`)...)
		return append(b, '\'')
	}
	// Backslashes are doubled first, so that they differ from ours.
	b = append(b, "$'"...)
	b = append(b, Terminal(quoteANSI.Replace(arg))...)
	return append(b, '\'')
}

var quoteANSI = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// plain reports whether a shell would take arg as it is.
func plain(arg string) bool {
	for i := 0; i < len(arg); i++ {
		c := arg[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("_-@%+=:,./", c) >= 0:
		default:
			return false
		}
	}
	return arg != ""
}
