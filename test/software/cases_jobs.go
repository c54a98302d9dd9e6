// SPDX-License-Identifier: Apache-2.0

package main

const (
	forgotten = "a launcher left in order and what it left has given no sign: forgotten and meant look alike"
)

// jobCases are jobs that a shell, or a program like one, leaves behind when it ends in
// order.
var jobCases = []testCase{
	{name: "nohup job &, then the shell exits", race: true, script: `sh -c 'nohup "$@" &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "nohup job &, redirected, then the shell exits", race: true, script: `sh -c 'nohup "$@" >log 2>&1 </dev/null &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "nohup of a script with a child", race: true, script: `sh -c 'nohup sh -c "$1; true" >log 2>&1 &' sh "$job"
ask_job child
ask job $(parent_of $(job_pids))`, wants: what("job", deliberate, "child", kept)},
	{name: "setsid job &, then the shell exits", race: true, script: `sh -c 'setsid "$@" &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "setsid -f job", race: true, script: `setsid -f $job
ask_job job`, wants: what("job", deliberate)},
	{name: "setsid nohup job &, all redirected", race: true, script: `bash -c 'setsid nohup "$@" >log 2>&1 </dev/null &' bash $job
ask_job job`, wants: what("job", deliberate)},
	{name: "job &, stdio to /dev/null, then the shell exits", race: true, script: `sh -c '"$@" </dev/null >/dev/null 2>&1 &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "job &, then the shell exits", race: true, script: `sh -c '"$@" &' sh $job
ask_job job`, wants: what("job", unknown), why: forgotten},
	{name: "job & disown, then the shell exits", race: true, script: `bash -c '"$@" & disown' bash $job
ask_job job`, wants: what("job", unknown), why: forgotten},
	{name: "trap '' HUP; job &, then the shell exits", race: true, script: `sh -c 'trap "" HUP; "$@" &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "zsh, job &!", race: true, script: `zsh -fc "nohup $job >/dev/null 2>&1 &!"
ask_job job`, wants: what("job", deliberate)},
	{name: "ksh, nohup job &", race: true, script: `ksh -c "nohup $job >/dev/null 2>&1 &"
ask_job job`, wants: what("job", deliberate)},
	{name: "fish, nohup job & disown", race: true, script: `fish --no-config -c "nohup $job >/dev/null 2>&1 & disown"
ask_job job`, wants: what("job", deliberate)},
	{name: "env nice nohup job &", race: true, script: `sh -c 'env A=b nice nohup "$@" >log 2>&1 &' sh $job
ask_job job`, wants: what("job", deliberate)},
	{name: "runuser -c 'nohup job &'", race: true, script: `runuser -u nobody -- sh -c "nohup $job >/dev/null 2>&1 &"
ask_job job`, wants: what("job", deliberate)},
	{name: "sudo, below nohup", race: true, script: `sh -c 'nohup sudo "$@" >log 2>&1 &' sh $job
ask_job job
ask sudo $(parent_of $(job_pids))`, wants: what("sudo", deliberate, "job", kept)},
	{name: "make, whose recipe starts nohup job &", race: true, script: `printf 'run:\n\tnohup %s >log 2>&1 &\n' "$job" >Makefile
make run
ask_job job`, wants: what("job", deliberate)},
	{name: "os.system('nohup job &')", race: true, script: `python3 -c "import os; os.system('nohup $job >/dev/null 2>&1 &')"
ask_job job`, wants: what("job", deliberate)},
	{name: "Popen(start_new_session=True), then Python exits", script: `python3 -c "import subprocess as s; s.Popen('$job'.split(), start_new_session=True)"
ask_job job`, wants: what("job", deliberate)},
	{name: "Popen(stdio=DEVNULL), then Python exits", script: `python3 -c "import subprocess as s; n = s.DEVNULL; s.Popen('$job'.split(), stdin=n, stdout=n, stderr=n)"
ask_job job`, wants: what("job", deliberate)},
	{name: "Popen, then Python exits", script: `python3 -c "import subprocess as s; s.Popen('$job'.split())"
ask_job job`, wants: what("job", unknown), why: forgotten},
	{name: "Node, spawn detached and unref", script: `node -e "require('child_process').spawn('sleep', ['$mark'], {detached: true, stdio: 'ignore'}).unref()"
ask_job job`, wants: what("job", deliberate)},
	{name: "Node, a worker that stays alone", script: `node -e "require('child_process').spawn('sleep', ['$mark'], {stdio: 'inherit'}).unref()"
ask_job job`, wants: what("job", unknown), why: forgotten},
	{name: "Perl, system('job &')", race: true, script: `perl -e 'system("nohup $ARGV[0] >/dev/null 2>&1 &")' "$job"
ask_job job`, wants: what("job", deliberate)},
	{name: "Ruby, Process.detach(spawn(pgroup: true)), then it exits", script: `ruby -e 'Process.detach(spawn(ARGV[0], pgroup: true, in: "/dev/null", out: "/dev/null", err: "/dev/null"))' "$job"
ask_job job`, wants: what("job", deliberate)},
	{name: "Java, a process that survives its JVM's exit", script: `cat >J.java <<'P'
public class J { public static void main(String[] a) throws Exception { new ProcessBuilder("setsid", "sleep", a[0]).start(); } }
P
java J.java $mark || true
ask_job job`, wants: what("job", deliberate), race: true,
		open: "a session is its only sign, and nobody is at the other ends of its standard input, output and error: so are browsers and servers whose driver has left without ending them"},
	{name: "xargs, nohup of each in the background", race: true, script: `echo $mark | xargs -I{} sh -c 'nohup sleep {} >/dev/null 2>&1 &'
ask_job job`, wants: what("job", deliberate)},
	{name: "an agent's setsid nohup job, the agent is SIGKILLed", script: agentShell("setsid nohup $job >log 2>&1 </dev/null & wait"),
		wants: what("job", deliberate, "shell", leaked)},
	{name: "an agent's nohup job, the agent is SIGKILLed", script: agentShell("nohup $job >log 2>&1 </dev/null & wait"),
		wants: what("job", deliberate, "shell", leaked)},
	{name: "an agent's job without a sign, the agent is SIGKILLed", script: agentShell("$job & wait"),
		wants: what("job", leaked, "shell", leaked)},
	{name: "an agent's tmux server, the agent is SIGKILLed", script: agentShell("tmux -S $dir/socket new-session -d $job; sleep 86400; true"),
		wants: what("job", kept, "shell", leaked)},
	{name: "an agent's nohup job, whose shell has left, the agent is SIGKILLed", script: `program agent <<'P'
#!/usr/bin/python3
import subprocess, sys, time
subprocess.run(["bash", "-c", sys.argv[1]], start_new_session=True)
time.sleep(86400)
P
./agent "nohup $job >log 2>&1 &" &
agent=$!
ask_job job
kill -9 $agent
gone $agent`, wants: what("job", deliberate), race: true},
}

// agentShell is an agent that runs a command in a shell of a session of its own, waits
// for it, and is killed.
func agentShell(command string) string {
	return `program agent <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["bash", "-c", sys.argv[1]], start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True)
P
./agent "` + command + `" &
agent=$!
ask_job job
ask shell $(children $agent)
kill -9 $agent
gone $agent`
}
