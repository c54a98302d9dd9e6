// SPDX-License-Identifier: Apache-2.0

package main

// leftCases leave workers by an exit of their own.
var leftCases = []testCase{
	{name: "a master fails with 1 and leaves its worker", places: in(plain, systemd), script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
time.sleep(6)
sys.exit(1)
P
./app "$job" &
master=$!
ask_job worker
gone $master`, wants: what("worker", leaked)},
	{name: "Node fails by an exception and leaves its worker", script: `node -e "require('child_process').spawn('sleep', ['$mark']); setTimeout(() => { throw 1 }, 500)" 2>log &
master=$!
ask_job worker
gone $master`, wants: what("worker", leaked)},
	{name: "a script fails with 2 and leaves a pipeline's part", script: `bash -c "$job | cat & sleep 1; exit 2" &
master=$!
ask_job worker
gone $master`, wants: what("worker", unknown), why: "it has failed, and somebody still reads what the worker writes"},
	{name: "a master leaves with 0 after seconds and leaves a forked worker", script: `program app <<'P'
#!/usr/bin/python3
import os, time
if os.fork() == 0: time.sleep(86400)
time.sleep(6)
os._exit(0)
P
setsid ./app $mark </dev/null >/dev/null 2>&1 &
master=$(found "^/usr/bin/python3 ./app $mark")
ask worker $(children $master)
gone $master`, wants: what("worker", unknown), why: forgotten},
	{name: "a master leaves with 0 after seconds and leaves a command on its pipes", script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys, time
p = subprocess.Popen(sys.argv[1].split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
time.sleep(6)
P
./app "$job" &
master=$!
ask_job worker
gone $master`, wants: what("worker", unknown), why: forgotten},
	{name: "Node leaves with process.exit() and leaves a detached browser", script: `node -e "
const c = require('child_process').spawn('sleep', ['$mark'], {detached: true, stdio: ['ignore', 'pipe', 'pipe']})
setTimeout(() => process.exit(0), 6000)" &
master=$!
ask_job worker
gone $master`, wants: what("worker", unknown), why: "its launcher made it a session of its own, and left in order after seconds"},
	{name: "sys.exit in Ctrl-C's handler leaves a worker", script: `program app <<'P'
#!/usr/bin/python3
import signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *a: sys.exit(0))
p = subprocess.Popen(sys.argv[1].split(), start_new_session=True, stdout=subprocess.PIPE)
open("up", "w").close()
p.wait()
P
setsid ./app "$job" &
ask_job worker
master=$(parent_of $(job_pids))
sleep 5.5
kill -INT $master
gone $master`, wants: what("worker", unknown), why: "its master was asked to end and left in order; it was made a session of its own"},
	{name: "a test runner leaves with 1, its server stays (as Jest's, with pipes)", script: `node -e "
const c = require('child_process').spawn('python3', ['-m', 'http.server', '-b', '127.0.0.1', '$port'])
setTimeout(() => process.exit(1), 6000)" &
master=$!
until_ok listening $port
ask worker $(children $master)
gone $master`, wants: what("worker", leaked)},
}

// laterCases are about a second death: of the owner of what a launcher had left, of a
// daemon, of a stranded process's own spawner.
var laterCases = []testCase{
	{name: "php-fpm below nohup, later SIGKILLed", script: phpConf + `sh -c 'nohup php-fpm8.2 -F -y "$1/conf" >out 2>&1 &' sh "$dir"
master=$(pid_in pid)
ask worker $(children $master 2)
sleep 1.2` + killMaster, wants: what("worker", leaked)},
	{name: "gunicorn below setsid, later SIGKILLed", script: gunicornApp + `sh -c 'setsid gunicorn -p pid -b 127.0.0.1:$1 -w 2 app:app >log 2>&1 </dev/null &' sh $port
master=$(pid_in pid)
ask worker $(children $master 2)
sleep 1.2` + killMaster, wants: what("worker", leaked)},
	{name: "gunicorn -D, stopped by SIGTERM", script: gunicornApp + `gunicorn -D -p "$dir/pid" -b 127.0.0.1:$port -w 2 app:app
master=$(pid_in pid)
ask worker $(children $master 2)
kill $master
gone $master`, wants: what("worker", kept)},
	{name: "nginx, stopped by SIGQUIT", script: nginxConf + `nginx -c "$dir/conf"
master=$(pid_in pid)
ask worker $(children $master 2)
kill -QUIT $master
gone $master`, wants: what("worker", kept)},
	{name: "pg_ctl stop -m fast", script: postgres + `pg start
master=$(pid_in data/postmaster.pid)
ask worker $(children $master 4)
pg stop -m fast >/dev/null
gone $master`, wants: what("worker", kept)},
	{name: "PostgreSQL, the postmaster is SIGKILLed: its processes notice, and leave", script: postgres + `pg start
master=$(pid_in data/postmaster.pid)
ask worker $(children $master 4)` + killMaster, wants: what("worker", kept)},
	{name: "a tmux server is SIGKILLed, a program in a pane has caught the hangup", script: `cat >app <<'P'
import signal, time
signal.signal(1, lambda *a: None)
open("up", "w")
while True: time.sleep(1)
P
tmux -S "$dir/socket" -f /dev/null new-session -d "exec python3 app $mark"
until_ok test -e up
master=$(tmux -S "$dir/socket" display -p '#{pid}')
ask worker $(found "^python3 app $mark")` + killMaster, wants: what("worker", leaked)},
	{name: "os.system('job &'), later the program is SIGKILLed", places: in(plain, systemd), script: `python3 -c "import os, time; os.system('$job &'); time.sleep(86400)" &
master=$!
ask_job worker
sleep 1.2` + killMaster, wants: what("worker", leaked)},
	{name: "R's PSOCK: a node started by sh -c 'node &', later the program is SIGKILLed", script: `program node <<'P'
#!/usr/bin/python3
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
time.sleep(86400)
P
cat >main.py <<'P'
import os, socket, sys, time
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.system(f"./node {sys.argv[1]} &")
c, _ = l.accept()
open("up", "w").close()
time.sleep(86400)
P
python3 main.py $port &
master=$!
until_ok test -e up
ask worker $(found "^/usr/bin/python3 ./node $port")
sleep 1.2` + killMaster, wants: what("worker", leaked)},
	{name: "os.system('nohup job &'), later the program is SIGKILLed", script: `python3 -c "import os, time; os.system('nohup $job >/dev/null 2>&1 &'); time.sleep(86400)" &
master=$!
ask_job job
sleep 1.2` + killMaster, wants: what("job", deliberate)},
	{name: "a stranded worker's own spawner dies later", script: `program app <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["python3", "-c", "import subprocess, sys; subprocess.run(sys.argv[1].split())", sys.argv[1]])
P
setsid nohup ./app "$job" >log 2>&1 </dev/null &
ask_job worker
middle=$(parent_of $(job_pids))
master=$(parent_of $middle)
kill -9 $middle
gone $middle`, wants: what("worker", leaked)},
	{name: "npm run, first npm, then node is SIGKILLed", script: `printf '{"scripts": {"dev": "node app.js"}}' >package.json
echo "require('child_process').spawn('sleep', ['$mark'], {stdio: 'inherit'}).on('exit', () => {})" >app.js
npm run dev >log 2>&1 &
master=$!
ask_job worker
node=$(parent_of $(job_pids))
kill -9 $master
gone $master
kill -9 $node
gone $node`, wants: what("worker", leaked)},
	{name: "a forkserver's main process is SIGKILLed, later the server", script: mpApp("forkserver") + `
server=$(parent_of $(pid_in up0))
ask worker $server
kill -9 $master
gone $master
kill -9 $server
gone $server`, wants: what("worker", leaked)},
	{name: "a double-forked daemon is SIGKILLed, its worker stays", script: `program d <<'P'
#!/usr/bin/python3
import os, subprocess, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
n = os.open("/dev/null", os.O_RDWR)
for fd in 0, 1, 2: os.dup2(n, fd)
open("pid", "w").write(f"{os.getpid()}\n")
subprocess.run(sys.argv[1].split())
P
./d "$job"
master=$(pid_in pid)
ask_job worker
sleep 1.2` + killMaster, wants: what("worker", leaked)},
}
