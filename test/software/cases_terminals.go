// SPDX-License-Identifier: Apache-2.0

package main

// terminalCases are about terminals that close, multiplexers and connections that end.
var terminalCases = []testCase{
	{name: "a window with nohup job & is closed", script: `window w bash --norc -i
type_in w "nohup $job &"
ask_job job
close_window w`, wants: what("job", deliberate)},
	{name: "a window with job & disown is closed", script: `window w bash --norc -i
type_in w "$job & disown"
ask_job job
close_window w`, wants: what("job", deliberate)},
	{name: "a window of zsh with job &! is closed", script: `window w zsh -f -i
type_in w "$job &!"
ask_job job
close_window w`, wants: what("job", deliberate)},
	{name: "a window of fish with job & disown is closed", script: `window w fish --no-config
sleep 1
type_in w "$job & disown"
ask_job job
close_window w`, wants: what("job", deliberate)},
	{name: "a window with job & is closed: bash hangs it up", script: `window w bash --norc -i
type_in w "$job &"
ask_job job
close_window w
gone $(jobs_now || echo 1000000)`, wants: what("job", kept)},
	{name: "a window with a job in the foreground is closed", script: `window w bash --norc -i
type_in w "$job"
ask_job job
close_window w`, wants: what("job", kept)},
	{name: "a window with a program that ignores the hangup is closed", script: `window w bash --norc -i
type_in w "python3 -c 'import signal, time; signal.signal(1, signal.SIG_IGN); open(\"up\", \"w\"); time.sleep($mark)'"
until_ok test -e up
ask program $(found "^python3 -c .*$mark")
close_window w`, wants: what("program", deliberate)},
	{name: "a window is left with exit while job & runs", script: `window w bash --norc -i
type_in w "$job &"
ask_job job
type_in w exit
gone $(cat w.shell)`, wants: what("job", unknown), why: forgotten},
	{name: "a pane of tmux with job & disown is closed", script: `tmux -S "$dir/socket" -f /dev/null new-session -d -s a "bash --norc -i"
tmux -S "$dir/socket" new-session -d -s b "sleep 86400"
tmux -S "$dir/socket" send-keys -t a "$job & disown" Enter
ask_job job
shell=$(parent_of $(job_pids))
tmux -S "$dir/socket" kill-session -t a
gone $shell
cleanup() { tmux -S "$dir/socket" kill-server; }`, wants: what("job", deliberate)},
	{name: "a pane of tmux with nohup job & is closed", script: `tmux -S "$dir/socket" -f /dev/null new-session -d -s a "bash --norc -i"
tmux -S "$dir/socket" send-keys -t a "nohup $job &" Enter
ask_job job
shell=$(parent_of $(job_pids))
tmux -S "$dir/socket" kill-session -t a
gone $shell`, wants: what("job", deliberate)},
	{name: "tmux kill-server, a job in the foreground", script: `tmux -S "$dir/socket" -f /dev/null new-session -d "$job"
ask_job job
tmux -S "$dir/socket" kill-server
gone $(jobs_now || echo 1000000)`, wants: what("job", kept)},
	{name: "tmux started by a shell that is SIGKILLed", script: `bash -c 'tmux -S "$1" -f /dev/null new-session -d "$2"; sleep 86400; true' bash "$dir/socket" "$job" &
shell=$!
ask_job pane
ask server $(tmux -S "$dir/socket" display -p '#{pid}')
kill -9 $shell
gone $shell`, wants: what("server", deliberate, "pane", kept)},
	{name: "a program in a pane of tmux starts a worker and is SIGKILLed", script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(sys.argv[1].split())
P
tmux -S "$dir/socket" -f /dev/null new-session -d "bash --norc -c './app \"$job\"; sleep 86400'"
ask_job worker
app=$(parent_of $(job_pids))
kill -9 $app
gone $app
cleanup() { tmux -S "$dir/socket" kill-server; }`, wants: what("worker", leaked)},
	{name: "screen -X quit, nohup job & in its window", script: `screen -dmS s$run bash --norc -i
until_ok pgrep -f "SCREEN -dmS s$run"
until_ok screen -S s$run -X stuff "nohup $job &
"
ask_job job
shell=$(parent_of $(job_pids))
screen -S s$run -X quit
gone $shell`, wants: what("job", deliberate)},
	{name: "ssh without a terminal, nohup job &", race: true, places: in(plain, systemd), script: sshServer + `ssh -n $ssh localhost "nohup $job >/dev/null 2>&1 </dev/null &"
ask_job job`, wants: what("job", deliberate)},
	{name: "ssh without a terminal, setsid job &", race: true, places: in(plain, systemd), script: sshServer + `ssh -n $ssh localhost "setsid $job >/dev/null 2>&1 </dev/null &"
ask_job job`, wants: what("job", deliberate)},
	{name: "ssh without a terminal, job & to /dev/null", race: true, places: in(plain, systemd), script: sshServer + `ssh -n $ssh localhost "$job >/dev/null 2>&1 </dev/null &"
ask_job job`, wants: what("job", deliberate)},
	{name: "ssh without a terminal, the connection breaks", places: in(plain, systemd), script: sshServer + `ssh -n $ssh localhost "$job; true" &
client=$!
ask_job job
shell=$(parent_of $(job_pids))
ask shell $shell
kill -9 $client

lost() { [ "$(ps -o comm= -p "$(parent_of $shell)")" != sshd ]; }
until_ok lost`, wants: what("shell", leaked, "job", leaked),
		open: "sshd leaves with 0 when a connection breaks, as when it was left: only the closed ends of its output differ, and a job that is meant has those, too"},
	{name: "ssh with a terminal, nohup job &, then exit", places: in(plain, systemd), script: sshServer + `(echo "nohup $job >/dev/null 2>&1 &"; until_ok jobs_now; echo exit) | ssh -tt $ssh localhost bash --norc -i >screen
ask_job job`, wants: what("job", deliberate)},
	{name: "ssh with a terminal, job & disown, the connection breaks", places: in(plain, systemd), script: sshServer + `mkfifo keys
ssh -tt $ssh localhost bash --norc -i <keys >screen &
client=$!
exec 7>keys
echo "$job & disown" >&7
ask_job job
shell=$(parent_of $(job_pids))
kill -9 $client
gone $shell`, wants: what("job", deliberate)},
	{name: "ssh with a terminal, a job in the foreground, the connection breaks", places: in(plain, systemd), script: sshServer + `mkfifo keys
ssh -tt $ssh localhost bash --norc -i <keys >screen &
client=$!
exec 7>keys
echo "$job" >&7
ask_job job
shell=$(parent_of $(job_pids))
kill -9 $client
gone $shell`, wants: what("job", kept)},
	{name: "ssh, the listening sshd is restarted below a session", places: in(plain, systemd), script: sshServer + `ssh -n $ssh localhost "$job; true" &
ask_job job
session=$(parent_of $(parent_of $(job_pids)))
ask session $session
listener=$(pid_in sshd.pid)
kill $listener
gone $listener
/usr/sbin/sshd -f /dev/null -h "$dir/key" -p $port -o PidFile="$dir/sshd.pid2"
until_ok test -s sshd.pid2
ask listener $(cat sshd.pid2)`, wants: what("session", deliberate, "job", kept, "listener", deliberate)},
	{name: "expect with a program that ignores the hangup is SIGKILLed", script: `cat >app <<'P'
import signal, subprocess, sys
signal.signal(1, lambda *a: None)
p = subprocess.Popen(sys.argv[1].split(), start_new_session=True)
while True: signal.pause()
P
expect -c "spawn python3 app {$job}; expect never" >/dev/null &
top=$!
ask_job worker
app=$(parent_of $(job_pids))
ask app $app
kill -9 $top
gone $top`, wants: what("app", leaked, "worker", leaked)},
	{name: "script(1) is SIGKILLed, its program catches the hangup", script: `cat >app <<'P'
import signal, time
signal.signal(1, lambda *a: None)
open("up", "w")
while True: time.sleep(1)
P
setsid script -qfc "python3 app $mark" log </dev/null >/dev/null &
until_ok test -e up
app=$(found "^python3 app $mark")
top=$(found "^script -qfc python3 app $mark")
ask app $app
kill -9 $top
gone $top
sleep 0.3`, wants: what("app", leaked), open: "it has caught the hangup and stays: nothing tells whether that was to outlive the terminal"},
}
