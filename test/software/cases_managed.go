// SPDX-License-Identifier: Apache-2.0

package main

// busCases are about services that a D-Bus daemon starts.
var busCases = []testCase{
	{name: "a session bus activates dconf-service", race: true, script: sessionBus + `dconf write /a/b 1
ask service $(on_bus ca.desrt.dconf)`, wants: what("service", deliberate)},
	{name: "a session bus activates xfconfd", places: in(plain, systemd), race: true, script: sessionBus + `gdbus call --session -d org.xfce.Xfconf -o /org/xfce/Xfconf -m org.xfce.Xfconf.ListChannels
ask service $(on_bus org.xfce.Xfconf)`, wants: what("service", deliberate)},
	{name: "a session bus activates gvfsd", race: true, script: sessionBus + `gdbus call --session -d org.gtk.vfs.Daemon -o /org/gtk/vfs/Daemon -m org.freedesktop.DBus.Peer.Ping
ask service $(on_bus org.gtk.vfs.Daemon)`, wants: what("service", deliberate)},
	{name: "the system bus activates polkitd without systemd", race: true, uses: "system bus", script: `mkdir -p /run/dbus
[ -S /run/dbus/system_bus_socket ] || dbus-daemon --system --fork
until_ok gdbus call --system -d org.freedesktop.PolicyKit1 -o /org/freedesktop/PolicyKit1/Authority -m org.freedesktop.DBus.Peer.Ping
polkitd=$(gdbus call --system -d org.freedesktop.DBus -o / -m org.freedesktop.DBus.GetConnectionUnixProcessID org.freedesktop.PolicyKit1 | grep -o '[0-9]*,' | tr -d ,)
ask service $polkitd`, wants: what("service", deliberate)},
	{name: "the system bus activates polkitd by systemd", places: in(systemd), uses: "system bus", script: `systemctl stop polkit
until_ok gdbus call --system -d org.freedesktop.PolicyKit1 -o /org/freedesktop/PolicyKit1/Authority -m org.freedesktop.DBus.Peer.Ping
ask service $(systemctl show -P MainPID polkit)`, wants: what("service", kept)},
	{name: "a session bus ends: what it has activated is asked to", script: sessionBus + `gdbus call --session -d org.xfce.Xfconf -o /org/xfce/Xfconf -m org.xfce.Xfconf.ListChannels
service=$(on_bus org.xfce.Xfconf)
ask service $service
kill $bus
gone $service`, wants: what("service", kept)},
	{name: "a program that a bus has activated starts a worker and is SIGKILLed", script: `mkdir -p share/dbus-1/services
program service <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["sleep", sys.argv[1]])
P
printf '[D-BUS Service]\nName=org.example.Job\nExec=%s/service %s\n' "$dir" $mark >share/dbus-1/services/org.example.Job.service
export XDG_DATA_DIRS=$dir/share:/usr/share
` + sessionBus + `gdbus call --timeout 1 --session -d org.example.Job -o / -m org.freedesktop.DBus.Peer.Ping
ask_job worker
master=$(parent_of $(job_pids))
sleep 1.2` + killMaster, wants: what("worker", leaked)},
}

const sessionBus = `export HOME=$dir XDG_CACHE_HOME=$dir/cache XDG_CONFIG_HOME=$dir/config XDG_RUNTIME_DIR=$dir
dbus-daemon --session --fork --print-pid --print-address >bus
export DBUS_SESSION_BUS_ADDRESS=$(sed -n 1p bus)
bus=$(sed -n 2p bus)
on_bus() { gdbus call --session -d org.freedesktop.DBus -o / -m org.freedesktop.DBus.GetConnectionUnixProcessID "$1" | grep -o '[0-9]*,' | tr -d ,; }
`

// lingering makes a user of the run's own, with a manager; as_user runs a command as him.
const lingering = `useradd --create-home user$run
loginctl enable-linger user$run
uid=$(id -u user$run)
until_ok test -S /run/user/$uid/bus
as_user() { setpriv --reuid=$uid --regid=$uid --init-groups env HOME=/home/user$run XDG_RUNTIME_DIR=/run/user/$uid DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus "$@"; }
cleanup() { loginctl disable-linger user$run; loginctl terminate-user user$run; systemctl stop user@$uid; }
cd /home/user$run
`

// scopeCases are about scopes, user managers and login sessions.
var scopeCases = []testCase{
	{name: "systemd-run --scope, its launcher is SIGKILLed", places: in(systemd), script: `python3 -c "import subprocess; subprocess.run('systemd-run --scope --quiet $job'.split())" &
master=$!
ask_job job` + killMaster, wants: what("job", deliberate)},
	{name: "systemd-run --scope of a program that starts a worker and is SIGKILLed", places: in(systemd), script: `systemd-run --scope --quiet python3 -c "import subprocess; subprocess.run('$job'.split())" &
ask_job worker
master=$(parent_of $(job_pids))` + killMaster, wants: what("worker", leaked)},
	{name: "systemd-run of a service, then the shell exits", places: in(systemd), script: `sh -c 'systemd-run --quiet --unit="$1" $2' sh job-$run "$job"
ask_job job
cleanup() { systemctl stop job-$run; }`, wants: what("job", none)},
	{name: "a desktop starts an application in a scope of its own and is SIGKILLed", places: in(systemd), script: lingering + `as_user python3 -c "import subprocess; subprocess.run('systemd-run --user --scope --quiet $job'.split())" &
ask_job job
master=$(parent_of $(job_pids))` + killMaster, wants: what("job", deliberate)},
	{name: "a service of a user", places: in(systemd), script: lingering + `as_user systemd-run --user --quiet $job
ask_job job`, wants: what("job", none)},
	{name: "a forking service of a user", places: in(systemd), script: lingering + `as_user systemd-run --user --quiet -p Type=forking sh -c "setsid $job </dev/null >/dev/null 2>&1 &"
ask_job job`, wants: what("job", deliberate)},
	{name: "a forking service of a user, without a sign of detaching", places: in(systemd), script: lingering + `as_user systemd-run --user --quiet -p Type=forking sh -c "$job &"
ask_job job`, wants: what("job", deliberate)},
	{name: "a worker's spawner in a service of a user is SIGKILLed, the main process lives", places: in(systemd), script: lingering + `cat >app.py <<'P'
import os, signal, subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split())
while not os.path.exists("now"): time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
P
as_user systemd-run --user --quiet --working-directory=/home/user$run sh -c "python3 app.py '$job'; exec sleep 86400"
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, wants: what("worker", leaked)},
	{name: "a service of a user is stopped while a worker drains", places: in(systemd), script: lingering + `cat >app.py <<'P'
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *a: (time.sleep(2), os._exit(0)))
    open("pid", "w").write(f"{os.getpid()}\n")
    while True: time.sleep(60)
while True: time.sleep(60)
P
as_user systemd-run --user --quiet --unit=app --working-directory=/home/user$run python3 app.py
ask worker $(pid_in pid)
as_user systemctl --user stop app`, wants: what("worker", kept)},
	{name: "a user's manager is stopped with a service in it", places: in(systemd), script: lingering + `as_user systemd-run --user --quiet sh -c "$job & exec sleep 86400"
ask_job job
systemctl stop user@$uid`, wants: what("job", kept)},
	{name: "a user's bus activates a service", places: in(systemd), script: lingering + `as_user gdbus call --session -d org.xfce.Xfconf -o /org/xfce/Xfconf -m org.xfce.Xfconf.ListChannels
ask service $(found "xfconfd")`, wants: what("service", kept), uses: "xfconfd"},
	{name: "a login by ssh ends with nohup job & left, the session is logind's", places: in(systemd), script: sshServer + `ssh -n $ssh localhost "nohup $job >/dev/null 2>&1 </dev/null &"
ask_job job
sleep 0.5`, wants: what("job", deliberate)},
}

// cronCases are about cron and at.
var cronCases = []testCase{
	{name: "cron: a job runs while cron is restarted", places: in(plain, systemd), uses: "cron", script: cronJob("$job; true") + `shell=$(parent_of $(job_pids))
ask shell $shell
if [ $place = systemd ]; then
	systemctl restart cron
else
	old=$(cat /run/crond.pid)
	kill $old
	gone $old
	cron
fi`, wants: what("shell", kept, "job", kept),
		open: "what a unit with KillMode=process leaves without a sign of its own could be either: the child of cron that waits for the job gives none"},
	{name: "cron: a line starts nohup job &", places: in(plain, systemd), shares: "cron", script: cronJob("nohup $job >/dev/null 2>\\&1 \\&"), wants: what("job", deliberate), race: true},
	{name: "cron: a line starts setsid job, detached", places: in(plain, systemd), shares: "cron", script: cronJob("setsid $job >/dev/null 2>\\&1 </dev/null \\&"), wants: what("job", deliberate), race: true},
	{name: "cron: a line's program is SIGKILLed and leaves a worker", places: in(plain, systemd), shares: "cron", script: cronJob("sh -c '$job; true'; true") + `master=$(parent_of $(job_pids))` + killMaster, wants: what("job", leaked)},
	{name: "cron: a job runs, cron is SIGKILLed", uses: "cron", script: cronJob("$job; true") + `shell=$(parent_of $(job_pids))
ask shell $shell
child=$(parent_of $shell)
old=$(cat /run/crond.pid)
kill -9 $old
gone $old
rm -f /run/crond.pid
cron`, wants: what("shell", leaked, "job", leaked)},
	{name: "at: a job", places: in(plain, systemd), uses: "atd", script: atJob("$job") + `ask_job job`, wants: what("job", kept)},
	{name: "at: nohup job &", places: in(plain, systemd), uses: "atd", script: atJob("nohup $job &") + `ask_job job`, wants: what("job", deliberate), race: true},
	{name: "at: a job's program is SIGKILLed and leaves a worker", places: in(plain, systemd), uses: "atd", script: atJob("sh -c '$job; true'; true") + `ask_job worker
master=$(parent_of $(job_pids))` + killMaster, wants: what("worker", leaked)},
	{name: "at: atd is restarted while a job runs", places: in(plain, systemd), uses: "atd", script: atJob("$job; true") + `ask_job job
if [ $place = systemd ]; then
	systemctl restart atd
else
	old=$(cat /run/atd.pid)
	kill $old
	gone $old
	atd
fi`, wants: what("job", kept)},
}

// cronJob has cron run a line in the minute that begins. Who has started cron may be swept
// away, with cron, while another still waits.
func cronJob(line string) string {
	return `printf '%s\n' "* * * * * root ` + line + `" | sed 's/\\&/\&/g' >/etc/cron.d/software$run
for ((i = 0; i < 700; i++)); do
	jobs_now >/dev/null && break
	if [ $place = systemd ]; then
		systemctl -q is-active cron || systemctl start cron
	else
		pgrep -x cron >/dev/null || cron || true
	fi
	sleep 0.2
done
rm -f /etc/cron.d/software$run
ask_job job
`
}

// atJob has at run a command.
func atJob(command string) string {
	return `if [ $place = systemd ]; then
	systemctl start atd
else
	running atd /run/atd.pid
fi
echo "` + command + `" | at now 2>log
`
}
