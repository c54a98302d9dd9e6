#compdef abot-trace
# SPDX-License-Identifier: Apache-2.0
# zsh completion for abot-trace. The words and their explanations come from the
# program itself; where it has nothing to say, files.
_abot_trace() {
	local line
	local -a candidates
	while IFS= read -r line; do
		candidates+=("${line//$'\t'/:}")
	done < <("${words[1]}" complete-words "${(@)words[2,CURRENT]}" 2>/dev/null)
	if ((${#candidates})); then
		_describe abot-trace candidates
	else
		_files
	fi
}
# Loaded from fpath, this file is the function's body; sourced, it registers it.
if [[ ${funcstack[1]} == _abot-trace ]]; then
	_abot_trace "$@"
else
	compdef _abot_trace abot-trace
fi
