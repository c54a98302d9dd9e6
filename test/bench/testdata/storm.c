/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads of the benchmark, bounded in number, one process each:
 *
 *	storm fork N     N times fork, exit, wait
 *	storm exec N     N times vfork, exec of ./nothing, exit, wait
 *	storm thread N   N times a thread, joined
 *	storm orphan N   N times, 5 ms apart: a process is killed that has a child
 *	storm idle N     N children that do nothing, until stdin ends
 *	storm tree N     a child with N children; prints their pids, waits to be killed
 *
 * The first four print how long they took, in nanoseconds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void reap(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status)) {
		fprintf(stderr, "a child exited with %d\n", WEXITSTATUS(status));
		exit(1);
	}
}

static void fork_once(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		_exit(0);
	reap(pid);
}

static void exec_once(void)
{
	char *argv[] = { "nothing", NULL };
	pid_t pid = vfork();

	if (pid < 0)
		die("vfork");
	if (pid == 0) {
		execv("nothing", argv);
		_exit(127);
	}
	reap(pid);
}

static void *nothing(void *arg)
{
	return arg;
}

static void thread_once(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, nothing, NULL))
		die("pthread_create");
	pthread_join(thread, NULL);
}

/* The killed process's child comes to us, the subreaper, who end and reap it. */
static void orphan_once(void)
{
	struct timespec pause = { 0, 5000000 };
	int ends[2];
	pid_t parent, child;

	if (pipe(ends))
		die("pipe");
	parent = fork();
	if (parent < 0)
		die("fork");
	if (parent == 0) {
		child = fork();
		if (child == 0)
			for (;;)
				sleep(1000);
		if (write(ends[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		raise(SIGKILL);
	}
	if (read(ends[0], &child, sizeof(child)) != sizeof(child))
		die("read");
	close(ends[0]);
	close(ends[1]);
	reap(parent);
	nanosleep(&pause, NULL);
	kill(child, SIGKILL);
	reap(child);
}

static void idle(long n)
{
	pid_t *pids = calloc(n, sizeof(*pids));
	char c;

	if (!pids)
		die("calloc");
	for (long i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork");
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	for (long i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		reap(pids[i]);
	}
}

/* A member of a tree says who it is and waits for its end, five minutes at most. */
static void member(int to)
{
	pid_t self = getpid();

	if (write(to, &self, sizeof(self)) != sizeof(self))
		_exit(1);
	alarm(300);
	for (;;)
		pause();
}

static void root(int to, long n)
{
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			_exit(1);
		if (pid == 0)
			member(to);
	}
	member(to);
}

static void tree(long n)
{
	int ends[2];
	pid_t pid;

	alarm(300);
	if (pipe(ends))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		root(ends[1], n);
	for (long i = 0; i <= n; i++) {
		if (read(ends[0], &pid, sizeof(pid)) != sizeof(pid))
			die("read");
		printf("%d ", pid);
	}
	puts("");
	fflush(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? atol(argv[2]) : 0;
	int64_t began = now();

	if (argc != 3 || n < 0 || n > 1000000 || (n == 0 && strcmp(argv[1], "tree"))) {
		fprintf(stderr, "usage: storm fork|exec|thread|orphan|idle|tree N\n");
		return 2;
	}
	if (!strcmp(argv[1], "idle")) {
		idle(n);
		return 0;
	}
	if (!strcmp(argv[1], "tree"))
		tree(n);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (long i = 0; i < n; i++) {
		if (!strcmp(argv[1], "fork"))
			fork_once();
		else if (!strcmp(argv[1], "exec"))
			exec_once();
		else if (!strcmp(argv[1], "thread"))
			thread_once();
		else if (!strcmp(argv[1], "orphan"))
			orphan_once();
	}
	printf("%lld\n", (long long)(now() - began));
	return 0;
}
