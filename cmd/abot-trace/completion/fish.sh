# SPDX-License-Identifier: Apache-2.0
# fish completion for abot-trace. The words and their explanations come from the
# program itself; where it has nothing to say, files.
function __abot_trace_words
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    $before[1] complete-words $before[2..-1] "$word" 2>/dev/null
end
complete -c abot-trace -a '(__abot_trace_words)'
