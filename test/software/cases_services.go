// SPDX-License-Identifier: Apache-2.0

package main

// service is the life of a unit of Debian's: started, reloaded where it can be, restarted,
// stopped. Nothing that it starts is ever a leak.
func service(unit string, prepare ...string) testCase {
	script := `unit=` + unit + "\n"
	for _, p := range prepare {
		script += p + "\n"
	}
	return testCase{name: unit + " is started, reloaded, restarted and stopped", places: in(systemd), uses: unit, script: script + `
systemctl reset-failed $unit 2>/dev/null
systemctl start $unit || fail "$(systemctl status --no-pager $unit)"
ask_living started $(unit_pids $unit)
if [ "$(systemctl show -P CanReload $unit)" = yes ]; then
	systemctl reload $unit
	sleep 0.3
	ask_living reloaded $(unit_pids $unit)
else
	ask_living reloaded $(unit_pids $unit)
fi
systemctl restart $unit
ask_living restarted $(unit_pids $unit)
sleep 1.5
systemctl stop $unit
`, wants: what("started", kept, "reloaded", kept, "restarted", kept)}
}

// custom is a case with a unit of its own, $unit, whose lines stand in [Service].
func custom(name, lines, script string, wants map[string]want) testCase {
	return testCase{name: name, places: in(systemd), script: `unit=software-$run.service
printf '%s\n' '[Service]' "` + lines + `" >/run/systemd/system/$unit
systemctl daemon-reload
cleanup() { systemctl stop $unit; rm -f /run/systemd/system/$unit; }
` + script, wants: wants}
}

// leakApp starts the job and is SIGKILLed once the file "now" is there.
const leakApp = `program app <<'P'
#!/usr/bin/python3
import os, signal, subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split())
while not os.path.exists(sys.argv[2] + "/now"): time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
P
`

var serviceCases = []testCase{
	service("nginx"), service("apache2", "sed -i 's/^Listen 80$/Listen 8082/' /etc/apache2/ports.conf"), service("ssh"), service("cron"), service("atd"),
	service("smbd"), service("redis-server"), service("postgresql@15-main"), service("haproxy"),
	service("php8.2-fpm"), service("lighttpd", "sed -i 's/server.port .*/server.port = 8081/' /etc/lighttpd/lighttpd.conf"),
	service("squid", "echo 'shutdown_lifetime 1 seconds' >/etc/squid/conf.d/x.conf"),
	service("memcached"), service("mosquitto"), service("supervisor"), service("pgbouncer"), service("tinyproxy"),
	service("monit"), service("postfix@-"), service("docker"), service("inetd", "echo '127.0.0.1:7777 stream tcp nowait root /bin/cat cat' >/etc/inetd.conf"),
	service("dnsmasq", "echo 'port=5353' >/etc/dnsmasq.d/x; echo 'bind-interfaces' >>/etc/dnsmasq.d/x"),
	service("systemd-resolved", "[ -e /lib/systemd/system/systemd-resolved.service ] || unit=systemd-logind"),
	service("systemd-journald"),
	custom("a forking unit with a PID file", `Type=forking
PIDFile=/run/software-$run.pid
ExecStart=/bin/sh -c 'setsid $job </dev/null >/dev/null 2>&1 & echo \$\$! >/run/software-$run.pid'`, `systemctl start $unit
ask main $(systemctl show -P MainPID $unit)`, what("main", deliberate)),
	custom("a forking unit whose PID is guessed, no sign of detaching", `Type=forking
ExecStart=/bin/sh -c '$job &'`, `systemctl start $unit
ask main $(systemctl show -P MainPID $unit)`, what("main", deliberate)),
	custom("a main process hands the unit over by MAINPID= and is SIGKILLed", `Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'cd $dir; exec ./app'`, `program app <<'P'
#!/usr/bin/python3
import os, signal, socket, time
child = os.fork()
if child == 0: time.sleep(86400)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"MAINPID=%d\nREADY=1" % child, os.environ["NOTIFY_SOCKET"])
open("pid", "w").write(f"{child}\n")
while not os.path.exists("now"): time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
P
systemctl start $unit
handed() { [ "$(systemctl show -P MainPID $unit)" = "$(cat pid)" ]; }
until_ok handed
first=$(parent_of $(cat pid))
ask main $(cat pid)
touch now
gone $first`, what("main", deliberate)),
	custom("a worker's spawner in a service is SIGKILLed, the main process lives", `ExecStart=/bin/sh -c 'cd $dir; ./app \"$job\" $dir; exec sleep 86400'`, leakApp+`systemctl start $unit
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, what("worker", leaked)),
	custom("a oneshot's program is SIGKILLed and leaves a worker", `Type=oneshot
ExecStart=/bin/sh -c 'cd $dir; ./app \"$job\" $dir; sleep 86400'`, leakApp+`systemctl start --no-block $unit
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, what("worker", leaked)),
	custom("a start-post's program is SIGKILLed and leaves a worker", `ExecStart=/bin/sleep 86400
ExecStartPost=/bin/sh -c 'cd $dir; ./app \"$job\" $dir; sleep 20'`, leakApp+`systemctl start --no-block $unit
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, what("worker", leaked)),
	custom("a reload's program is SIGKILLed and leaves a worker", `ExecStart=/bin/sleep 86400
ExecReload=/bin/sh -c 'cd $dir; ./app \"$job\" $dir; sleep 20'`, leakApp+`systemctl start $unit
systemctl reload --no-block $unit
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, what("worker", leaked)),
	custom("a notify unit before READY: a program is SIGKILLed and leaves a worker", `Type=notify
ExecStart=/bin/sh -c 'cd $dir; ./app \"$job\" $dir; sleep 86400'`, leakApp+`systemctl start --no-block $unit
ask_job worker
app=$(parent_of $(job_pids))
touch now
gone $app`, what("worker", leaked)),
	custom("a unit is stopped, a deaf worker is killed by systemd", `ExecStart=/bin/sh -c '(trap \"\" TERM; $job; true) & exec sleep 86400'
TimeoutStopSec=3`, `systemctl start $unit
ask_job worker
ask worker $(parent_of $(job_pids))
systemctl stop $unit`, what("worker", kept)),
	custom("workers that drain while systemd stops their unit", `ExecStart=$dir/app`, `program app <<'P'
#!/usr/bin/python3
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *a: (time.sleep(2), os._exit(0)))
    open(os.path.dirname(__file__) + "/pid", "w").write(f"{os.getpid()}\n")
    while True: time.sleep(60)
while True: time.sleep(60)
P
systemctl start $unit
ask worker $(pid_in pid)
systemctl stop $unit`, what("worker", kept)),
	custom("KillMode=process, the unit is stopped, its worker stays", `ExecStart=/bin/sh -c '$job & exec sleep 86400'
KillMode=process`, `systemctl start $unit
ask_job worker
systemctl stop $unit`, what("worker", unknown)).because("such a unit leaves processes on purpose, and this one shows no sign of its own"),
	custom("KillMode=process, the unit is stopped, its nohup job stays", `ExecStart=/bin/sh -c 'nohup $job >/dev/null 2>&1 & exec sleep 86400'
KillMode=process`, `systemctl start $unit
ask_job worker
systemctl stop $unit`, what("worker", deliberate)),
	custom("KillMode=process, the main process is SIGKILLed, its worker stays", `ExecStart=/bin/sh -c '$job & exec sleep 86400'
KillMode=process`, `systemctl start $unit
ask_job worker
kill -9 $(systemctl show -P MainPID $unit)
down() { [ "$(systemctl is-active $unit)" != active ]; }
until_ok down`, what("worker", leaked)),
	custom("KillMode=mixed, the main process leaves with 0, a worker ignores all but SIGKILL", `ExecStart=/bin/sh -c '(trap \"\" TERM; $job; true) & sleep 2'
KillMode=mixed
TimeoutStopSec=4`, `systemctl start $unit
ask_job worker
ask worker $(parent_of $(job_pids))
down() { [ "$(systemctl is-active $unit)" != active ]; }
until_ok down`, what("worker", kept)),
	custom("Restart=always: the main process of a unit is SIGKILLed, systemd ends its workers", `ExecStart=/bin/sh -c '$job & exec sleep 86400'
Restart=always`, `systemctl start $unit
ask_job worker
worker=$(job_pids)
kill -9 $(systemctl show -P MainPID $unit)
gone $worker`, what("worker", kept)),
	custom("SendSIGKILL=no: what a stopped unit could not end", `ExecStart=/bin/sh -c '(trap \"\" TERM; sleep 0.1; $job; true) & exec sleep 86400'
SendSIGKILL=no
TimeoutStopSec=1`, `systemctl start $unit
ask_job job
ask worker $(parent_of $(job_pids))
systemctl stop $unit
sleep 1`, what("worker", deliberate, "job", kept)),
}

// because sets why.
func (c testCase) because(why string) testCase { c.why = why; return c }
