// SPDX-License-Identifier: Apache-2.0

package main

// killMaster kills the process whose pid is in $master as the OOM killer, an impatient
// operator or a supervisor's time-out does, and waits for its death.
const killMaster = `
kill -9 $master
gone $master`

// killed is a case of workers whose master is SIGKILLed.
func killed(name, script string, uses ...string) testCase {
	c := testCase{name: name, script: script + killMaster, wants: what("worker", leaked)}
	if len(uses) > 0 {
		c.uses = uses[0]
	}
	return c
}

// killedCases leak workers by the death of a master: killed, crashed, out of memory.
var killedCases = []testCase{
	killed("nginx, the master is SIGKILLed", nginxConf+`nginx -c "$dir/conf"
master=$(pid_in pid)
ask worker $(children $master 2)`),
	killed("apache2, the master is SIGKILLed", `printf 'ServerRoot /etc/apache2\nServerName x\nListen %s\nPidFile %s/pid\nErrorLog %s/log\nLoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n' $port "$dir" "$dir" >conf
apache2 -f "$dir/conf" -k start
master=$(pid_in pid)
ask worker $(children $master 3)`),
	killed("php-fpm, the master is SIGKILLed", phpConf+`php-fpm8.2 -D -y "$dir/conf"
master=$(pid_in pid)
ask worker $(children $master 2)`),
	killed("php-fpm in the foreground, the master is SIGKILLed", phpConf+`php-fpm8.2 -F -y "$dir/conf" &
master=$!
ask worker $(children $master 2)`),
	killed("uwsgi, the master is SIGKILLed", `echo 'def application(e, s): return [b""]' >app.py
uwsgi --plugin python3 --http-socket 127.0.0.1:$port --master --processes 2 --pidfile "$dir/pid" --daemonize "$dir/log" --wsgi-file app.py
master=$(pid_in pid)
ask worker $(children $master 2)`),
	killed("gunicorn, the master is SIGKILLed", gunicornApp+`gunicorn -b 127.0.0.1:$port -w 2 app:app 2>log &
master=$!
ask worker $(children $master 2)`),
	killed("gunicorn -D, the master is SIGKILLed", gunicornApp+`gunicorn -D -p "$dir/pid" -b 127.0.0.1:$port -w 2 app:app
master=$(pid_in pid)
ask worker $(children $master 2)`),
	killed("uvicorn --workers, the supervisor is SIGKILLed", `cat >app.py <<'P'
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            m = await receive()
            await send({"type": m["type"] + ".complete"})
P
uvicorn --port $port --workers 2 app:app 2>log &
master=$!
workers() { pgrep -P $master -f spawn_main; }
two() { [ "$(workers | wc -l)" -ge 2 ]; }
until_ok two
ask worker $(workers)`),
	killed("unicorn, the master is SIGKILLed", `echo 'run lambda { |e| [200, {}, []] }' >config.ru
printf 'worker_processes 2\n' >conf
unicorn -c conf -l 127.0.0.1:$port 2>log &
master=$!
ask worker $(children $master 2)`),
	killed("celery, the main process is SIGKILLed", celeryApp+`python3 -m celery -A tasks worker -c 2 -l info >log 2>&1 &
master=$!
until_ok grep -q "ready" log
ask worker $(children $master 2)`).but("worker", kept), // PR_SET_PDEATHSIG takes them along
	killed("squid, the master is SIGKILLed", `mkdir log; chmod 777 . log
printf 'http_port %s\npid_filename %s/pid\ncache_log %s/log/cache\naccess_log none\ncache_effective_user proxy\nacl a src all\nhttp_access allow a\ncoredump_dir /tmp\nshutdown_lifetime 1 seconds\n' $port "$dir" "$dir" >conf
squid -f "$dir/conf" -n s$run
master=$(pid_in pid)
ask worker $(children $master)`),
	killed("haproxy -W, the master is SIGKILLed", `printf 'defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten a\n bind 127.0.0.1:%s\n' $port >conf
haproxy -W -f conf &
master=$!
ask worker $(children $master)`).but("worker", kept), // they notice by their pipe, and leave
	killed("PostgreSQL, a client's psql under a SIGKILLed script", postgres+`pg start
program load <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["psql", "-h", sys.argv[1], "-p", sys.argv[2], "-c", "select pg_sleep(3600)", "postgres"])
P
chmod 755 load
runuser -u postgres -- ./load "$dir" $port &
worker=$(found "^/usr/lib/postgresql/15/bin/psql -h $dir|^psql -h $dir")
master=$(parent_of $worker)
ask worker $worker`),
	killed("supervisord is SIGKILLed", `printf '[supervisord]\npidfile=%s/pid\nlogfile=%s/log\n[program:job]\ncommand=%s\n' "$dir" "$dir" "$job" >conf
supervisord -c conf
master=$(pid_in pid)
ask_job worker`),
	killed("runsv is SIGKILLed", `mkdir one
printf '#!/bin/sh\nexec %s\n' "$job" >one/run
chmod 755 one/run
runsv "$dir/one" &
master=$!
ask_job worker`),
	killed("s6-supervise is SIGKILLed", `mkdir one
printf '#!/bin/sh\nexec %s\n' "$job" >one/run
chmod 755 one/run
s6-supervise "$dir/one" &
master=$!
ask_job worker`),
	killed("a shell is SIGKILLed while its command runs", `bash -c "$job; true" &
master=$!
ask_job worker`),
	killed("sh -c, a pipeline", `sh -c "$job | cat; true" &
master=$!
ask_job worker
ask worker $(pgrep -P $master cat)`),
	killed("a shell function in the background, the shell is SIGKILLed", `bash -c "f() { $job; true; }; f & wait" &
master=$!
ask_job worker
ask worker $(parent_of $(job_pids))`),
	killed("timeout is SIGKILLed", `timeout 86399 $job &
master=$!
ask_job worker`),
	{name: "timeout -s KILL ends a shell", script: `timeout -s KILL 5 sh -c "$job; true" &
ask_job worker
gone $(parent_of $(job_pids))`, wants: what("worker", leaked)},
	killed("make is SIGKILLed", `printf 'run:\n\t%s; true\n' "$job" >Makefile
make run &
master=$!
ask_job worker
ask worker $(parent_of $(job_pids))`),
	killed("make -j2 is SIGKILLed", `printf 'all: a b\na b:\n\t%s\n' "$job" >Makefile
make -j2 &
master=$!
ask_job worker 2`),
	killed("xargs -P is SIGKILLed", `printf '%s\n' $mark $mark | xargs -P2 -n1 sleep &
master=$(found "^xargs -P2 -n1 sleep")
ask_job worker 2`, "xargs"),
	killed("find -exec is SIGKILLed", `find "$dir" -maxdepth 0 -exec sleep $mark ';' &
master=$!
ask_job worker`),
	killed("GNU parallel is SIGKILLed", `printf '%s\n' $mark $mark | parallel -j2 sleep 2>log &
ask_job worker 2
master=$(parent_of $(parent_of $(job_pids | head -n1)))
[ "$(ps -o comm= -p $master)" = perl ] || master=$(parent_of $(job_pids | head -n1))`),
	killed("flock is SIGKILLed", `flock "$dir/lock" $job &
master=$!
ask_job worker`),
	killed("env, nice and time, time is SIGKILLed", `env A=b nice python3 -c "import subprocess; subprocess.run('$job'.split())" &
master=$!
ask_job worker`),
	killed("sudo is SIGKILLed", `sudo $job &
master=$!
ask_job worker`),
	killed("runuser is SIGKILLed", `runuser nobody -s /bin/sh -c "$job" &
master=$!
ask_job worker`),
	killed("npm run is SIGKILLed", `printf '{"scripts": {"dev": "node app.js"}}' >package.json
echo "require('child_process').spawn('sleep', ['$mark'], {stdio: 'inherit'}).on('exit', () => {})" >app.js
npm run dev >log 2>&1 &
master=$!
ask_job worker
ask worker $(parent_of $(job_pids))`),
	killed("Node, spawn()", `node -e "require('child_process').spawn('sleep', ['$mark'])" &
master=$!
ask_job worker`),
	killed("Node, fork()", `echo "setInterval(() => {}, 1000)" >child.js
node -e "require('child_process').fork('./child.js', ['$mark'])" &
master=$!
ask worker $(children $master)`).but("worker", kept), // a child of fork() leaves when its channel closes
	killed("Node's cluster, the workers ignore the disconnect", `cat >app.js <<'P'
const cluster = require('cluster')
if (cluster.isPrimary) { cluster.fork(); cluster.fork() } else {
  require('http').createServer(() => {}).listen(+process.argv[2]); process.on('disconnect', () => {}); setInterval(() => {}, 1000) }
P
node app.js $port &
master=$!
until_ok listening $port
ask worker $(children $master 2)`).but("worker", kept),
	killed("a browser's driver in Node: detached, with pipes (as Playwright does)", `node -e "
const c = require('child_process').spawn('python3', ['-c', 'import time; time.sleep($mark)'], {detached: true, stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe']})
c.stdout.on('data', () => {}); setInterval(() => {}, 1000)" &
master=$!
ask worker $(children $master)`),
	killed("a kernel of jupyter_client: start_new_session", `program km <<'P'
#!/usr/bin/python3
import json, os, sys, time
d = sys.argv[1] + "/kernels/k"
os.makedirs(d)
json.dump({"argv": ["sleep", sys.argv[2]], "display_name": "k", "language": "k"}, open(d + "/kernel.json", "w"))
os.environ["JUPYTER_PATH"] = sys.argv[1]
from jupyter_client.manager import KernelManager
m = KernelManager(kernel_name="k")
m.start_kernel()
time.sleep(86400)
P
./km "$dir" $mark &
master=$!
ask_job worker`),
	killed("a runner of a Procfile (as honcho and foreman): a shell in a session of its own each", `program runner <<'P'
#!/usr/bin/python3
import subprocess, sys, threading
def run(command):
    p = subprocess.Popen(command, shell=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in p.stdout: pass
for c in sys.argv[1:]: threading.Thread(target=run, args=(c,)).start()
P
./runner "$job; true" "$job; true" &
master=$!
ask_job worker 2
ask worker $(children $master 2)`),
	killed("an agent's command: a shell in a session of its own, input from /dev/null", `program agent <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["bash", "-c", sys.argv[1]], start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True)
P
./agent "$job; true" &
master=$!
ask_job worker
ask worker $(children $master)`),
	killed("an agent's tool server on pipes (as those of MCP)", `cat >server.py <<'P'
import signal, time
time.sleep(86400)
P
node -e "
const s = require('child_process').spawn('sh', ['-c', 'python3 server.py $mark; true'], {stdio: ['pipe', 'pipe', 'inherit']})
setInterval(() => {}, 1000)" &
master=$!
server=$(found "^python3 server.py $mark")
ask worker $server $(parent_of $server)`),
	killed("multiprocessing, fork", mpApp("fork")),
	killed("multiprocessing, spawn", mpApp("spawn")),
	killed("multiprocessing, forkserver", mpApp("forkserver")),
	killed("ProcessPoolExecutor", `program app <<'P'
#!/usr/bin/python3
import concurrent.futures as f, time
def work(n):
    open(f"up{n}", "w").close()
    time.sleep(86400)
with f.ProcessPoolExecutor(2) as pool:
    list(pool.map(work, range(2)))
P
./app &
master=$!
until_ok test -e up0 -a -e up1
ask worker $(children $master 2)`),
	killed("Python, os.fork workers that never execute", `program app <<'P'
#!/usr/bin/python3
import os, time
for _ in range(3):
    if os.fork() == 0:
        time.sleep(86400)
time.sleep(86400)
P
./app &
master=$!
ask worker $(children $master 3)`),
	killed("Python, a daemon's worker: output to a log, input from /dev/null", `program app <<'P'
#!/usr/bin/python3
import subprocess, sys, time
n = subprocess.DEVNULL
p = [subprocess.Popen(sys.argv[1].split(), stdin=n, stdout=n, stderr=n) for _ in range(2)]
time.sleep(86400)
P
./app "$job" &
master=$!
ask_job worker 2`),
	killed("Java, ProcessBuilder", `cat >J.java <<'P'
public class J { public static void main(String[] a) throws Exception { new ProcessBuilder("sleep", a[0]).start().waitFor(); } }
P
java J.java $mark &
master=$!
ask_job worker`),
	killed("Erlang, a port program", `erl -noshell -sname never$run -setcookie x -kernel start_distribution false -eval "open_port({spawn, \"$job\"}, []), timer:sleep(infinity)." &
ask_job worker
master=$(found "beam.*never$run")`),
	killed("Ruby, spawn", `ruby -e 'Process.wait(spawn(ARGV[0]))' "$job" &
master=$!
ask_job worker`),
	killed("Perl, system", `perl -e 'system(split / /, $ARGV[0])' "$job" &
master=$!
ask_job worker`),
	killed("git, an alias that runs a shell", `git -c "alias.x=!$job; true" x &
master=$!
ask_job worker`),
	killed("socat EXEC is SIGKILLed", `socat TCP-LISTEN:$port,bind=127.0.0.1,fork EXEC:"$job" &
listener=$!
until_ok listening $port
exec 7<>/dev/tcp/127.0.0.1/$port
ask_job worker
master=$(parent_of $(job_pids))
[ $master != $listener ] || fail "socat has not forked"`),
	killed("ssh's ProxyCommand, ssh is SIGKILLed", `ssh -F none -o "ProxyCommand=sh -c '$job; true'" localhost &
master=$!
ask_job worker`),
	killed("unshare -pf is SIGKILLed", `unshare -pf --mount-proc $job &
master=$!
ask_job worker`),
	killed("bwrap --unshare-pid is SIGKILLed", `bwrap --bind / / --dev /dev --proc /proc --unshare-pid $job &
master=$!
ask_job worker`),
	{name: "a master crashes: SIGSEGV", script: `program app <<'P'
#!/usr/bin/python3
import os, subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split())
while not os.path.exists("crash"): time.sleep(0.01)
import ctypes; ctypes.string_at(0)
P
./app "$job" &
master=$!
ask_job worker
touch crash
gone $master`, wants: what("worker", leaked)},
	{name: "a master aborts", script: `program app <<'P'
#!/usr/bin/python3
import os, subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split())
while not os.path.exists("crash"): time.sleep(0.01)
os.abort()
P
./app "$job" &
master=$!
ask_job worker
touch crash
gone $master`, wants: what("worker", leaked)},
	{name: "Node crashes, its worker stays", script: `node -e "require('child_process').spawn('sleep', ['$mark']); setTimeout(() => process.abort(), 500)" &
master=$!
ask_job worker
gone $master`, wants: what("worker", leaked)},
	{name: "a forked worker is killed as the OOM killer does, with a child", script: `program app <<'P'
#!/usr/bin/python3
import os, subprocess, sys, time
pid = os.fork()
if pid == 0:
    subprocess.run(sys.argv[1].split())
open("pid", "w").write(f"{pid}\n")
time.sleep(86400)
P
./app "$job" &
ask_job worker
master=$(pid_in pid)` + killMaster, wants: what("worker", leaked)},
	{name: "out of memory: the OOM killer takes the master", script: `program app <<'P'
#!/usr/bin/python3
import os, subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split())
while not os.path.exists("go-on"): time.sleep(0.01)
b = []
while True: b.append(bytearray(b"x" * 1000000))
P
limited ./app "$job" &
master=$!
ask_job worker
touch go-on
gone $master`, wants: what("worker", leaked)},
	{name: "SIGTERM to an unprepared master", script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(sys.argv[1].split())
P
./app "$job" &
master=$!
ask_job worker
kill $master
gone $master`, wants: what("worker", leaked)},
	{name: "a subprocess's time-out kills the shell, not the command (subprocess.run)", script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys, time
p = subprocess.Popen(sys.argv[1], shell=True)
try: p.wait(1)
except subprocess.TimeoutExpired: p.kill(); p.wait()
open("over", "w").close()
time.sleep(86400)
P
./app "$job; true" &
ask_job worker
until_ok test -e over`, wants: what("worker", leaked)},
}

// but wants something else of a role.
func (c testCase) but(role string, w want) testCase { return c.and(role, w) }

// mpApp is a program with two workers by multiprocessing.
func mpApp(method string) string {
	return `program app <<'P'
#!/usr/bin/python3
import multiprocessing, os, sys, time
def work(n):
    open(f"up{n}", "w").write(f"{os.getpid()}\n")
    time.sleep(86400)
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for n in range(2): multiprocessing.Process(target=work, args=(n,)).start()
    time.sleep(86400)
P
./app ` + method + ` &
master=$!
ask worker $(pid_in up0) $(pid_in up1)`
}
