# SPDX-License-Identifier: Apache-2.0
# bash completion for abot-trace. The words come from the program itself, so they
# are those of its help; where it has nothing to say, files.
_abot_trace() {
	# Read line by line: compgen -W would expand what it is given.
	mapfile -t COMPREPLY < <(
		"${COMP_WORDS[0]}" complete-words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1
	)
}
complete -o bashdefault -o default -F _abot_trace abot-trace
