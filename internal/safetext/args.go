// SPDX-License-Identifier: Apache-2.0

package safetext

import "strings"

// Args returns a command line as one line of printable text in which the borders
// between arguments show: what a shell would split is quoted, and an argument
// with unprintable characters stands in bash's $'...'. It does not hide secrets:
// pass it what [Redact] returned.
func Args(args []string) string {
	var out strings.Builder
	for i, arg := range args {
		if i > 0 {
			out.WriteByte(' ')
		}
		writeArg(&out, arg)
	}
	return out.String()
}

func writeArg(out *strings.Builder, arg string) {
	if plain(arg) {
		out.WriteString(arg)
		return
	}
	if safe := Terminal(arg); safe == arg {
		out.WriteByte('\'')
		out.WriteString(strings.ReplaceAll(arg, "'", `'\''`))
		out.WriteByte('\'')
		return
	}
	// Backslashes are doubled first, so that they differ from ours.
	out.WriteString("$'")
	out.WriteString(Terminal(quoteANSI.Replace(arg)))
	out.WriteByte('\'')
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
