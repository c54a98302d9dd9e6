// SPDX-License-Identifier: Apache-2.0

package main

// withDocker starts dockerd where it does not run and has an image of busybox; "again"
// starts it anew.
const withDocker = `docker_args="--iptables=false --ip6tables=false --bridge=none --storage-driver=vfs --live-restore"
again() {
	if [ $place = systemd ]; then
		mkdir -p /run/systemd/system/docker.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// %s\n' "$docker_args" >/run/systemd/system/docker.service.d/x.conf
		systemctl daemon-reload
		systemctl restart docker
	else
		setsid nohup env -u SOFTWARE_RUN dockerd $docker_args >/var/log/dockerd.log 2>&1 </dev/null &
		until_ok docker info
	fi
}
docker info 2>/dev/null | grep -q 'Live Restore Enabled: true' || again
if ! docker image inspect box >/dev/null 2>&1; then
	mkdir -p box/bin
	cp /bin/busybox box/bin/
	for a in sh sleep cat kill true setsid; do ln -s busybox box/bin/$a; done
	tar -C box -c . | docker import - box >/dev/null
fi
name=box$run
cleanup() { docker rm -f $name; }
`

// containerCases are about docker, podman and sandboxes.
var containerCases = []testCase{
	{name: "docker run -d", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --network=none --name $name box sleep $mark
ask_job init
ask shim $(parent_of $(job_pids))`, wants: what("init", kept, "shim", kept)},
	{name: "docker run --init -d, a program in it starts a worker and is killed", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --init --network=none --name $name box sh -c "sh -c 'sleep $mark; true'; sleep 86400" 
ask_job worker
master=$(parent_of $(job_pids))` + killMaster, wants: what("worker", leaked)},
	{name: "docker exec -d", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --network=none --name $name box sleep 86400
docker exec -d $name sleep $mark
ask_job job`, wants: what("job", kept)},
	{name: "docker exec of a shell that is SIGKILLed", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --network=none --name $name box sleep 86400
docker exec -d $name sh -c "sleep $mark; true"
ask_job worker
master=$(parent_of $(job_pids))` + killMaster, wants: what("worker", leaked)},
	{name: "dockerd is restarted with live-restore", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --network=none --name $name box sleep $mark
ask_job init
ask shim $(parent_of $(job_pids))
if [ $place = plain ] || [ $place = init ]; then
	old=$(pgrep -ox dockerd)
	kill $old
	gone $old
fi
again`, wants: what("init", kept, "shim", kept)},
	{name: "docker stop", places: in(plain, systemd), uses: "docker", script: withDocker + `docker run -d --init --network=none --name $name box sh -c "sleep $mark; true"
ask_job job
docker stop -t 2 $name`, wants: what("job", kept)},
	{name: "docker run -d by an agent that is SIGKILLed", places: in(plain, systemd), uses: "docker", script: withDocker + `program agent <<'P'
#!/usr/bin/python3
import subprocess, sys, time
subprocess.run(sys.argv[1:])
time.sleep(86400)
P
./agent docker run -d --network=none --name $name box sleep $mark &
master=$!
ask_job init
sleep 0.5` + killMaster, wants: what("init", kept)},
	{name: "podman run -d, a program in it starts a worker and is killed", uses: "podman", script: `mkdir -p root/bin; cp /bin/busybox root/bin/
for a in sh sleep; do ln -s busybox root/bin/$a; done
pod="podman --root $dir/store --runroot $dir/r --cgroup-manager=cgroupfs --storage-driver vfs"
$pod run -d --network=host --cgroups=disabled --rootfs "$dir/root" /bin/sh -c "sh -c 'sleep $mark; true' & sleep 86400; true"
ask_job worker
master=$(parent_of $(job_pids))
cleanup() { $pod rm -f -t 0 -a; }` + killMaster, wants: what("worker", leaked)},
	{name: "bwrap --die-with-parent is SIGKILLed", script: `bwrap --die-with-parent --bind / / --dev /dev --proc /proc --unshare-pid $job &
master=$!
ask_job worker` + killMaster, wants: what("worker", kept)},
	{name: "an agent's sandbox: bwrap below a shell of a session of its own, the agent is SIGKILLed", script: `program agent <<'P'
#!/usr/bin/python3
import subprocess, sys
subprocess.run(["bash", "-c", sys.argv[1]], start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True)
P
./agent "bwrap --bind / / --dev /dev --proc /proc --unshare-pid $job; true" &
master=$!
ask_job worker` + killMaster, wants: what("worker", leaked)},
}
