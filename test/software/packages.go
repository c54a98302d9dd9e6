// SPDX-License-Identifier: Apache-2.0

package main

// packages are Debian's that the cases run. A case that needs another adds it here: the
// root file system is then made anew.
var packages = []string{
	// Places where work is started.
	"cron", "at", "openssh-server", "openssh-client", "dropbear-bin", "tmux", "screen", "dbus-user-session", "dbus-x11",
	"supervisor", "runit", "s6", "monit", "daemon", "openbsd-inetd", "autossh", "expect", "sudo",
	// Servers.
	"nginx-light", "apache2", "lighttpd", "haproxy", "php-fpm", "spawn-fcgi", "uwsgi-core", "uwsgi-plugin-python3",
	"gunicorn", "uvicorn", "unicorn", "squid", "tinyproxy", "postgresql", "pgbouncer", "redis-server", "memcached", "rsync", "iperf3",
	"stunnel4", "vsftpd", "dnsmasq", "mosquitto", "postfix", "samba", "rsyslog", "git", "gnupg", "socat",
	// What D-Bus activates.
	"polkitd", "dconf-service", "dconf-cli", "libglib2.0-bin", "xfconf", "gvfs-daemons",
	// Containers.
	"docker.io", "podman", "crun", "bubblewrap", "busybox-static", "tini",
	// Languages and their runners.
	"python3", "python3-celery", "python3-jupyter-client", "nodejs", "npm", "default-jre-headless", "erlang-base",
	"make", "parallel", "ksh", "zsh", "fish", "iproute2", "psmisc",
}
