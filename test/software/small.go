// SPDX-License-Identifier: Apache-2.0

package main

// The small form is what continuous integration runs: cases of every kind that need few
// packages and little time. Those that hang on what the daemon has to ask for (the other ends
// of stdio, who listens, who is connected to whom, the units) run in both places: under systemd
// it asks from inside the shipped unit's sandbox.

var smallPackages = []string{
	"at", "openssh-server", "openssh-client", "tmux", "dbus-user-session", "dbus-x11", "nginx-light", "gunicorn", "redis-server",
	"libglib2.0-bin", "xfconf", "bubblewrap", "tini", "socat", "python3", "make", "iproute2", "psmisc",
}

var smallCases = []string{
	"nginx",
	"gunicorn -D",
	"redis-server --daemonize yes",
	"a double fork in Python",
	"ssh-agent",
	"tmux new-session -d",
	"nohup job &, then the shell exits",
	"setsid -f job",
	"job & disown, then the shell exits",
	"Popen(start_new_session=True), then Python exits",
	"an agent's setsid nohup job, the agent is SIGKILLed",
	"an agent's job without a sign, the agent is SIGKILLed",
	"a window with job & disown is closed",
	"a pane of tmux with nohup job & is closed",
	"ssh without a terminal, nohup job &",
	"nginx is started, reloaded, restarted and stopped",
	"redis-server is started, reloaded, restarted and stopped",
	"a forking unit with a PID file",
	"a start-post's program is SIGKILLed and leaves a worker",
	"a oneshot's program is SIGKILLed and leaves a worker",
	"a worker's spawner in a service is SIGKILLed, the main process lives",
	"workers that drain while systemd stops their unit",
	"KillMode=process, the unit is stopped, its nohup job stays",
	"Restart=always: the main process of a unit is SIGKILLed, systemd ends its workers",
	"SendSIGKILL=no: what a stopped unit could not end",
	"nginx, USR2, then QUIT to the old master",
	"nginx, USR2, then the old master is SIGKILLed",
	"a session bus activates xfconfd",
	"systemd-run --scope, its launcher is SIGKILLed",
	"a forking service of a user",
	"a worker's spawner in a service of a user is SIGKILLed, the main process lives",
	"at: nohup job &",
	"bwrap --unshare-pid is SIGKILLed",
	"nginx, the master is SIGKILLed",
	"gunicorn, the master is SIGKILLed",
	"a shell is SIGKILLed while its command runs",
	"make is SIGKILLed",
	"xargs -P is SIGKILLed",
	"multiprocessing, fork",
	"a master crashes: SIGSEGV",
	"a master fails with 1 and leaves its worker",
	"os.system('job &'), later the program is SIGKILLed",
	"a stranded worker's own spawner dies later",
	"a double-forked daemon is SIGKILLed, its worker stays",
}
