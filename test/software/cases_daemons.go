// SPDX-License-Identifier: Apache-2.0

package main

// daemonCases go into the background by themselves, each in its own way: daemon(3), a
// double fork, a helper that starts them, a flag. Who starts them is a shell. All are
// meant to stay.
var daemonCases = []testCase{
	daemon("sshd", `ssh-keygen -q -t ed25519 -N "" -f key
/usr/sbin/sshd -f /dev/null -h "$dir/key" -p $port -o PidFile="$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("cron", `rm -f /run/crond.pid
cron
ask daemon $(pid_in /run/crond.pid)`, "cron"),
	daemon("atd", `atd
ask daemon $(pid_in /run/atd.pid)`, "atd"),
	daemon("dropbear", `dropbearkey -t ed25519 -f key
dropbear -r key -p $port -P "$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("rsync --daemon", `echo "pid file = $dir/pid" >conf
rsync --daemon --config="$dir/conf" --port=$port </dev/null
ask daemon $(pid_in pid)`),
	daemon("iperf3 -s -D", `iperf3 -s -D -p $port -I "$dir/pid"
ask daemon $(pid_in pid | tr -d '\0')`),
	daemon("smbd -D", `mkdir -p state cache lock private
printf '[global]\nsmb ports = %s\npid directory = %s\nlock directory = %s\nstate directory = %s\ncache directory = %s\nprivate dir = %s\nncalrpc dir = %s\ndisable netbios = yes\nlog file = %s/log\n' \
	$port "$dir" "$dir/lock" "$dir/state" "$dir/cache" "$dir/private" "$dir/rpc" "$dir" >conf
smbd -D -s "$dir/conf"
main=$(pid_in smbd.pid)
until_ok listening $port
ask daemon $main`, "smbd"),
	daemon("nginx", nginxConf+`nginx -c "$dir/conf"
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid) 2)`).and("worker", kept),
	daemon("apache2", `printf 'ServerRoot /etc/apache2\nServerName x\nListen %s\nPidFile %s/pid\nErrorLog %s/log\nLoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n' $port "$dir" "$dir" >conf
apache2 -f "$dir/conf" -k start
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid))`).and("worker", kept),
	daemon("lighttpd", `printf 'server.document-root = "/var/www"\nserver.port = %s\nserver.pid-file = "%s/pid"\n' $port "$dir" >conf
lighttpd -f conf
ask daemon $(pid_in pid)`),
	daemon("haproxy -D", `printf 'global\n pidfile %s/pid\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten a\n bind 127.0.0.1:%s\n' "$dir" $port >conf
haproxy -D -f conf
ask daemon $(pid_in pid)`),
	daemon("haproxy -D -W", `printf 'global\n pidfile %s/pid\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten a\n bind 127.0.0.1:%s\n' "$dir" $port >conf
haproxy -D -W -f conf
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid))`).and("worker", kept),
	daemon("php-fpm -D", phpConf+`php-fpm8.2 -D -y "$dir/conf"
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid) 2)`).and("worker", kept),
	daemon("spawn-fcgi", `spawn-fcgi -p $port -P "$dir/pid" -- /bin/sleep $mark
ask daemon $(pid_in pid)`),
	daemon("uwsgi --daemonize", `echo 'def application(e, s): return [b""]' >app.py
uwsgi --plugin python3 --http-socket 127.0.0.1:$port --master --processes 2 --pidfile "$dir/pid" --daemonize "$dir/log" --wsgi-file app.py
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid) 2)`).and("worker", kept),
	daemon("gunicorn -D", gunicornApp+`gunicorn -D -p "$dir/pid" -b 127.0.0.1:$port -w 2 app:app
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid) 2)`).and("worker", kept),
	daemon("unicorn -D", `echo 'run lambda { |e| [200, {}, []] }' >config.ru
printf 'pid "%s/pid"\nworker_processes 2\nstderr_path "%s/log"\nstdout_path "%s/log"\n' "$dir" "$dir" "$dir" >conf
unicorn -D -c conf -l 127.0.0.1:$port
ask daemon $(pid_in pid)
ask worker $(children $(pid_in pid) 2)`).and("worker", kept),
	daemon("squid", `mkdir log; chmod 777 . log
printf 'http_port %s\npid_filename %s/pid\ncache_log %s/log/cache\naccess_log none\ncache_effective_user proxy\nacl a src all\nhttp_access allow a\ncoredump_dir /tmp\nshutdown_lifetime 1 seconds\n' $port "$dir" "$dir" >conf
squid -f "$dir/conf" -n s$run
ask daemon $(pid_in pid)
ask kid $(children $(pid_in pid))`).and("kid", kept),
	daemon("tinyproxy", `printf 'Port %s\nPidFile "%s/pid"\nLogFile "%s/log"\n' $port "$dir" "$dir" >conf
tinyproxy -c conf
ask daemon $(pid_in pid)`),
	daemon("pg_ctl start", postgres+`pg start
ask daemon $(pid_in data/postmaster.pid)
ask worker $(children $(pid_in data/postmaster.pid) 5)`).and("worker", kept),
	daemon("pgbouncer -d", `chmod 777 .
printf '[databases]\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%s\npidfile=%s/pid\nlogfile=%s/log\nunix_socket_dir=%s\n' $port "$dir" "$dir" "$dir" >conf
runuser -u postgres -- pgbouncer -d conf
ask daemon $(pid_in pid)`),
	daemon("redis-server --daemonize yes", `redis-server --port $port --daemonize yes --pidfile "$dir/pid" --save ""
ask daemon $(pid_in pid)`),
	daemon("memcached -d", `memcached -d -u root -p $port -U 0 -P "$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("stunnel", `printf 'pid = %s/pid\noutput = %s/log\n[a]\nclient = yes\naccept = 127.0.0.1:%s\nconnect = 127.0.0.1:1\n' "$dir" "$dir" $port >conf
stunnel4 "$dir/conf"
ask daemon $(pid_in pid)`),
	daemon("vsftpd, background=YES", `printf 'listen=YES\nlisten_port=%s\nbackground=YES\nanonymous_enable=YES\nsecure_chroot_dir=/tmp\n' $port >conf
vsftpd "$dir/conf"
ask daemon $(found "vsftpd $dir/conf")`),
	daemon("dnsmasq", `dnsmasq -C /dev/null -p $port --listen-address=127.0.0.1 --bind-interfaces -x "$dir/pid" -u root
ask daemon $(pid_in pid)`),
	daemon("mosquitto -d", `mosquitto -d -p $port
ask daemon $(found "mosquitto -d -p $port")`),
	daemon("rsyslogd", `printf 'module(load="imudp")\ninput(type="imudp" port="%s" address="127.0.0.1")\n*.* %s/log\n' $port "$dir" >conf
rsyslogd -f "$dir/conf" -i "$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("postfix start", `cp -a /etc/postfix conf
postconf -c "$dir/conf" inet_interfaces=127.0.0.1 mynetworks_style=host maillog_file=/var/log/postfix.log
postconf -c "$dir/conf" -X alternate_config_directories 2>/dev/null
sed -i "s/^smtp .*inet.*/$port inet n - n - - smtpd/" conf/master.cf
mkdir -p queue data; chown postfix data
cp -a conf/. /etc/postfix/
postfix start
ask daemon $(pid_in /var/spool/postfix/pid/master.pid)
cleanup() { postfix abort; }`, "postfix"),
	daemon("supervisord", `printf '[supervisord]\npidfile=%s/pid\nlogfile=%s/log\n[program:job]\ncommand=%s\n' "$dir" "$dir" "$job" >conf
supervisord -c conf
ask daemon $(pid_in pid)
ask_job program`).and("program", kept),
	daemon("monit", `printf 'set daemon 30\nset pidfile %s/pid\nset statefile %s/state\nset idfile %s/id\n' "$dir" "$dir" "$dir" >conf
chmod 600 conf
monit -c "$dir/conf"
ask daemon $(pid_in pid)`),
	daemon("daemon --pidfile", `daemon --pidfile="$dir/pid" -- $job </dev/null
ask daemon $(pid_in pid)
ask_job client`).and("client", kept),
	daemon("start-stop-daemon --background", `start-stop-daemon --start --background --make-pidfile --pidfile "$dir/pid" --exec /bin/sleep -- $mark
ask daemon $(pid_in pid)`),
	daemon("git daemon --detach", `git daemon --detach --pid-file="$dir/pid" --listen=127.0.0.1 --port=$port --base-path="$dir"
ask daemon $(pid_in pid)`),
	daemon("gpg-agent, started by gpg", `mkdir -m 700 gnupg
export GNUPGHOME=$dir/gnupg
gpg -q --batch --passphrase "" --quick-gen-key a@example.org
ask daemon $(found "gpg-agent --homedir $dir/gnupg")`),
	daemon("ssh-agent", `eval $(ssh-agent -a "$dir/socket")
ask daemon $SSH_AGENT_PID`),
	daemon("autossh -f", sshServer+`AUTOSSH_PIDFILE=$dir/auto autossh -M 0 -f $ssh -N localhost
ask daemon $(pid_in auto)`),
	daemon("ssh -f -N", sshServer+`ssh -f $ssh -N localhost
ask daemon $(found "ssh -f .* -p $port .*localhost")`),
	daemon("ssh, ControlPersist", sshServer+`ssh $ssh -o ControlMaster=auto -o ControlPath="$dir/control" -o ControlPersist=yes localhost true
ask daemon $(found "ssh: $dir/control")`),
	daemon("dbus-daemon --fork", `dbus-daemon --session --fork --print-pid --print-address >said
ask daemon $(sed -n 2p said)`),
	daemon("dbus-launch", `dbus-launch --sh-syntax >said
. ./said
ask daemon $DBUS_SESSION_BUS_PID`),
	daemon("celery multi start", celeryApp+`python3 -m celery -A tasks multi start one --pidfile="$dir/%n.pid" --logfile="$dir/%n.log" -c 2
ask daemon $(pid_in one.pid)
ask worker $(children $(pid_in one.pid) 2)`).and("worker", kept),
	daemon("epmd -daemon", `epmd -daemon -port $port
ask daemon $(found "epmd -daemon -port $port")`),
	daemon("erl -detached", `erl -detached -noshell -sname never -setcookie x -kernel start_distribution false -eval 'timer:sleep(infinity).' -extra r$mark
ask daemon $(found "beam.* r$mark")`),
	daemon("tmux new-session -d", `tmux -S "$dir/socket" new-session -d "$job"
ask daemon $(tmux -S "$dir/socket" display -p '#{pid}')
ask_job pane`).and("pane", kept),
	daemon("screen -dmS", `screen -dmS s$run $job
ask daemon $(found "SCREEN -dmS s$run")
ask_job window`).and("window", kept),
	daemon("a double fork in Perl", `program d <<'P'
#!/usr/bin/perl
use POSIX "setsid";
exit if fork; setsid; exit if fork;
chdir "/"; open STDIN, "</dev/null"; open STDOUT, ">/dev/null"; open STDERR, ">/dev/null";
open P, ">$ARGV[0]"; print P "$$\n"; close P;
sleep 1000 while 1;
P
./d "$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("a double fork in Python", `program d <<'P'
#!/usr/bin/python3
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
n = os.open("/dev/null", os.O_RDWR)
for fd in 0, 1, 2: os.dup2(n, fd)
open(sys.argv[1], "w").write(f"{os.getpid()}\n")
time.sleep(86400)
P
./d "$dir/pid"
ask daemon $(pid_in pid)`),
	daemon("an init script: cron", `rm -f /run/crond.pid
service cron start
ask daemon $(pid_in /run/crond.pid)`, "cron"),
	daemon("an init script: redis-server", `service redis-server start
until_ok test -s /run/redis/redis-server.pid
ask daemon $(pid_in /run/redis/redis-server.pid)
cleanup() { service redis-server stop; }`, "redis"),
	daemon("an init script: apache2", `service apache2 start
ask daemon $(pid_in /run/apache2/apache2.pid)
ask worker $(children $(pid_in /run/apache2/apache2.pid))
cleanup() { service apache2 stop; }`, "apache2").and("worker", kept),
	daemon("pg_ctlcluster start", `pg_ctlcluster 15 main start
pid=/run/postgresql/15-main.pid
ask daemon $(pid_in $pid)
ask worker $(children $(pid_in $pid) 4)
cleanup() { pg_ctlcluster 15 main stop -m immediate; }`, "postgresql").and("worker", kept),
	daemon("s6-svscan, detached by setsid", `mkdir -p scan/one
printf '#!/bin/sh\nexec %s\n' "$job" >scan/one/run
chmod 755 scan/one/run
sh -c 'setsid s6-svscan "$1" </dev/null >log 2>&1 &' sh "$dir/scan"
ask_job program
ask daemon $(found "s6-svscan $dir/scan")`).and("program", kept),
	daemon("podman's conmon", `mkdir -p root/bin; cp /bin/busybox root/bin/
podman --root "$dir/store" --runroot "$dir/r" --cgroup-manager=cgroupfs --storage-driver vfs run -d --network=host --cgroups=disabled --rootfs "$dir/root" /bin/busybox sleep $mark
pid=$(found "^/bin/busybox sleep $mark")
ask program $pid
ask daemon $(parent_of $pid)
cleanup() { podman --root "$dir/store" --runroot "$dir/r" --storage-driver vfs rm -f -t 0 -a; }`, "podman").and("program", kept),
}

// daemon is a case of one that is to be called deliberate.
func daemon(name, script string, uses ...string) testCase {
	c := testCase{name: name, script: script, wants: what("daemon", deliberate), race: true}
	if len(uses) > 0 {
		c.uses = uses[0]
	}
	return c
}

// and adds a role.
func (c testCase) and(role string, w want) testCase {
	wants := what(role, w)
	for r, w := range c.wants {
		wants[r] = w
	}
	c.wants = wants
	return c
}

// Pieces of scripts that several cases share.
const (
	nginxConf = `printf 'worker_processes 2;\npid %s/pid;\nerror_log %s/log;\nevents {}\nhttp { access_log off; server { listen 127.0.0.1:%s; } }\n' "$dir" "$dir" $port >conf
`
	phpConf = `printf '[global]\npid = %s/pid\nerror_log = %s/log\n[www]\nuser = nobody\ngroup = nogroup\nlisten = 127.0.0.1:%s\npm = static\npm.max_children = 2\n' "$dir" "$dir" $port >conf
`
	gunicornApp = `printf 'def app(env, start):\n    start("200 OK", [])\n    return [b""]\n' >app.py
`
	celeryApp = `mkdir -p q
cat >tasks.py <<'P'
from celery import Celery
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "q", "data_folder_out": "q"}
P
`
	postgres = `chmod 777 .
pgbin=/usr/lib/postgresql/15/bin
pg() { runuser -u postgres -- $pgbin/pg_ctl -D "$dir/data" -l "$dir/log" -w -o "-p $port -c listen_addresses= -c unix_socket_directories=$dir" "$@"; }
runuser -u postgres -- $pgbin/initdb -N -D "$dir/data" >/dev/null
`
	// sshServer starts a server of the run's own; $ssh are the options that reach it.
	sshServer = `mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N "" -f key
cp key.pub authorized
/usr/sbin/sshd -f /dev/null -h "$dir/key" -p $port -o PidFile="$dir/sshd.pid" -o AuthorizedKeysFile="$dir/authorized" -o StrictModes=no -o UsePAM=$([ $place = systemd ] && echo yes || echo no)
ssh="-F none -i $dir/key -p $port -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
until_ok listening $port
`
)
