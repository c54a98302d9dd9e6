// SPDX-License-Identifier: Apache-2.0

package main

// upgradeCases hand a service over to its next generation while it serves.
var upgradeCases = []testCase{
	{name: "nginx, USR2, then QUIT to the old master", script: nginxUpgrade + `
kill -QUIT $old
gone $old`, wants: what("master", deliberate, "worker", kept, "old_worker", kept)},
	{name: "nginx, USR2, then the old master is SIGKILLed", places: in(plain, systemd), script: nginxUpgrade + `
kill -9 $old
gone $old`, wants: what("master", deliberate, "worker", kept, "old_worker", leaked)},
	{name: "gunicorn, USR2, then TERM to the old master", script: gunicornUpgrade + `
kill -TERM $old
gone $old`, wants: what("master", deliberate, "worker", kept)},
	{name: "gunicorn, USR2, then the old master is SIGKILLed", script: gunicornUpgrade + `
kill -9 $old
gone $old`, wants: what("master", deliberate, "worker", kept)},
	{name: "unicorn, USR2, then QUIT to the old master", script: `echo 'run lambda { |e| [200, {}, []] }' >config.ru
printf 'pid "%s/pid"\nworker_processes 2\nstderr_path "%s/log"\nstdout_path "%s/log"\n' "$dir" "$dir" "$dir" >conf
unicorn -D -c "$dir/conf" -l 127.0.0.1:$port "$dir/config.ru"
old=$(pid_in pid)
children $old 2 >/dev/null
kill -USR2 $old
until_ok test -s pid.oldbin
other() { [ -s pid ] && [ "$(cat pid)" != $old ] && [ "$(pgrep -P $(cat pid) | wc -l)" -ge 2 ]; }
until_ok other
ask master $(cat pid)
ask worker $(children $(cat pid) 2)
kill -QUIT $old
gone $old`, wants: what("master", deliberate, "worker", kept)},
	{name: "haproxy -W, reloaded by USR2", script: `printf 'global\n pidfile %s/pid\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten a\n bind 127.0.0.1:%s\n' "$dir" $port >conf
haproxy -D -W -f "$dir/conf"
master=$(pid_in pid)
old=$(children $master)
ask worker $old
kill -USR2 $master
gone $old
ask_living worker $(children $master)`, wants: what("worker", kept)},
	{name: "haproxy -D -sf, a new process takes over", script: `printf 'global\n pidfile %s/pid\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten a\n bind 127.0.0.1:%s\n' "$dir" $port >conf
haproxy -D -f "$dir/conf"
old=$(pid_in pid)
haproxy -D -f "$dir/conf" -sf $old
gone $old
ask master $(pid_in pid)`, wants: what("master", deliberate), race: true},
	{name: "apache2 -k graceful", script: `printf 'ServerRoot /etc/apache2\nServerName x\nListen %s\nPidFile %s/pid\nErrorLog %s/log\nLoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n' $port "$dir" "$dir" >conf
apache2 -f "$dir/conf" -k start
master=$(pid_in pid)
old=$(children $master | head -n 1)
ask worker $(children $master)
apache2 -f "$dir/conf" -k graceful
gone $old
ask_living worker $(children $master)`, wants: what("worker", kept)},
	{name: "php-fpm, reloaded by USR2", script: phpConf + `setsid /usr/sbin/php-fpm8.2 -F -y "$dir/conf" &
master=$(pid_in pid)
old=$(children $master 2 | head -n 1)
ask worker $(children $master 2)
kill -USR2 $master
gone $old
sleep 1.5
ask_living worker $(children $master 2)`, wants: what("worker", kept)},
	{name: "uwsgi, reloaded by HUP", script: `echo 'def application(e, s): return [b""]' >app.py
uwsgi --plugin python3 --http-socket 127.0.0.1:$port --master --processes 2 --pidfile "$dir/pid" --daemonize "$dir/log" --wsgi-file app.py
master=$(pid_in pid)
old=$(children $master 2 | head -n 1)
ask worker $(children $master 2)
kill -HUP $master
gone $old
sleep 1.5
ask_living worker $(children $master 2)`, wants: what("worker", kept)},
	{name: "gunicorn, reloaded by HUP", script: gunicornApp + `gunicorn -D -p "$dir/pid" -b 127.0.0.1:$port -w 2 app:app
master=$(pid_in pid)
old=$(children $master 2 | head -n 1)
ask worker $(children $master 2)
kill -HUP $master
gone $old
sleep 1.5
ask_living worker $(children $master 2)`, wants: what("worker", kept)},
	{name: "pgbouncer -R, a new process takes the sockets", script: `chmod 777 .
printf '[databases]\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%s\npidfile=%s/pid\nlogfile=%s/log\nunix_socket_dir=%s\nauth_type=any\nadmin_users=postgres\n' $port "$dir" "$dir" "$dir" >conf
runuser -u postgres -- pgbouncer -d conf
old=$(pid_in pid)
until_ok listening $port
runuser -u postgres -- pgbouncer -d -R conf
gone $old
other() { [ -s pid ] && [ "$(cat pid)" != $old ]; }
until_ok other
ask master $(cat pid)`, wants: what("master", deliberate), race: true},
	{name: "a server in Python hands its socket to its next generation and leaves", script: `cat >server.py <<'P'
import os, signal, socket, subprocess, sys, time
fd = os.environ.get("FD")
s = socket.socket(fileno=int(fd)) if fd else socket.create_server(("127.0.0.1", int(sys.argv[1])))
open("pid" + (fd and "2" or ""), "w").write(f"{os.getpid()}\n")
workers = [os.fork() for _ in range(2)]
if 0 in workers: time.sleep(86400)
def upgrade(*_):
    s.set_inheritable(True)
    subprocess.Popen([sys.executable] + sys.argv, env={**os.environ, "FD": str(s.fileno())}, close_fds=False)
def leave(*_):
    for w in workers: os.kill(w, 15)
    os._exit(0)
signal.signal(signal.SIGUSR2, upgrade)
signal.signal(signal.SIGTERM, leave)
while True: time.sleep(0.1)
P
sed -i 's/if 0 in workers: time.sleep(86400)//; s/workers = .*/workers = []\nfor _ in range(2):\n    p = os.fork()\n    if p == 0: time.sleep(86400)\n    workers.append(p)/' server.py
setsid python3 server.py $port </dev/null >/dev/null 2>&1 &
old=$(pid_in pid)
children $old 2 >/dev/null
kill -USR2 $old
new=$(pid_in pid2)
children $new 2 >/dev/null
ask master $new
ask worker $(children $new 2)
kill $old
gone $old`, wants: what("master", deliberate, "worker", kept)},
}

const (
	nginxUpgrade = nginxConf + `/usr/sbin/nginx -c "$dir/conf"
old=$(pid_in pid)
children $old 2 >/dev/null
kill -USR2 $old
until_ok test -s pid.oldbin
other() { [ -s pid ] && [ "$(cat pid)" != $old ] && [ "$(pgrep -P $(cat pid) | wc -l)" -ge 2 ]; }
until_ok other
ask master $(cat pid)
ask worker $(children $(cat pid) 2)
for p in $(pgrep -P $old); do [ $p = $(cat pid) ] || ask "old_worker" $p; done`
	gunicornUpgrade = gunicornApp + `gunicorn -D -p "$dir/pid" -b 127.0.0.1:$port -w 2 app:app
old=$(pid_in pid)
children $old 2 >/dev/null
kill -USR2 $old
until_ok test -s pid.2
new=$(pid_in pid.2)
children $new 2 >/dev/null
ask master $new
ask worker $(children $new 2)`
)
