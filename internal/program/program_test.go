// SPDX-License-Identifier: Apache-2.0

package program

import (
	"slices"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		cmdline            string // words separated by "|"
		name, script, args string
	}{
		{"/usr/bin/python3.11|/srv/app/worker.py|--queue|high", "python3", "/srv/app/worker.py", "--queue|high"},
		{"python3|-u|-W|ignore|train.py|--rank|0", "python3", "train.py", "-u|-W|ignore|--rank|0"},
		{"python3|-m|celery|-A|proj|worker", "python3", "-m celery", "-A|proj|worker"},
		{"python|-c|import time; time.sleep(9)", "python", "-c import time; time.sleep(9)", ""},
		{"/root/.nvm/versions/node/v20.1.0/bin/node|--max-old-space-size=4096|server.js", "node", "server.js", "--max-old-space-size=4096"},
		{"node|-r|dotenv/config|app.js", "node", "app.js", "-r|dotenv/config"},
		{"bash|-lc|sleep 5 & wait", "bash", "-c sleep 5 & wait", ""},
		{"/bin/sh|./run.sh|a", "sh", "./run.sh", "a"},
		{"-bash", "bash", "", ""},
		{"sh|-c", "sh", "", "-c"},
		{"java|-Xmx2g|-cp|a.jar:b.jar|com.example.Main|--id|3", "java", "com.example.Main", "-Xmx2g|-cp|a.jar:b.jar|--id|3"},
		{"java|-jar|app-1.2.jar", "java", "-jar app-1.2.jar", ""},
		{"deno|run|-A|main.ts", "deno", "main.ts", "run|-A"},
		{"perl5.36.0|-w|x.pl", "perl5", "x.pl", "-w"},
		{"/usr/sbin/nginx|-g|daemon off;", "nginx", "", "-g|daemon off;"},
		{"php-fpm8.2|-F", "php-fpm8", "", "-F"},
		{"python3|--|x.py", "python3", "x.py", ""},
		{"python3", "python3", "", ""},
	} {
		p := Of(strings.Split(tt.cmdline, "|"), "", "comm")
		var args []string
		if tt.args != "" {
			args = strings.Split(tt.args, "|")
		}
		if p.Name != tt.name || p.Script != tt.script || !slices.Equal(p.Args, args) {
			t.Errorf("Of(%q) = name %q, script %q, args %q; want %q, %q, %q", tt.cmdline, p.Name, p.Script, p.Args, tt.name, tt.script, tt.args)
		}
	}
}

func TestOfWithoutCommandLine(t *testing.T) {
	if p := Of(nil, "/opt/app/bin/serverd (deleted)", "serverd"); p.Name != "serverd" {
		t.Errorf("by its exe: %q", p.Name)
	}
	if p := Of(nil, "", "kworker/0:1"); p.Name == "" {
		t.Error("by its comm: no name")
	}
}

func TestSame(t *testing.T) {
	of := func(s string) *Program { p := Of(strings.Fields(s), "", ""); return &p }
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"python3 app.py -w 1", "/usr/bin/python3.11 app.py -w 2", true},
		{"python3 app.py", "python3 worker.py", false},
		{"/usr/sbin/nginx", "/usr/sbin/nginx -g x", true},
		{"/usr/sbin/nginx", "nginx -g x", true},
		{"/opt/a/server", "/opt/b/server", false},
		{"python3 app.py", "ruby app.py", false},
	} {
		if got := of(tt.a).Same(of(tt.b)); got != tt.want {
			t.Errorf("%q same as %q: got %v", tt.a, tt.b, got)
		}
	}
}

func TestLabel(t *testing.T) {
	for cmdline, want := range map[string]string{
		"python3 /srv/app/worker.py": "worker.py",
		"python3 -m celery -A x":     "celery",
		"bash -c ls":                 "bash",
		"java -jar /opt/x/app.jar":   "app.jar",
		"/usr/sbin/nginx":            "nginx",
	} {
		p := Of(strings.Fields(cmdline), "", "")
		if got := p.Label(); got != want {
			t.Errorf("label of %q: got %q, want %q", cmdline, got, want)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("python3\x00-m\x00x", "/usr/bin/python3")
	f.Add("\x00", "")
	f.Fuzz(func(t *testing.T, cmdline, exe string) {
		words := strings.Split(cmdline, "\x00")
		before := slices.Clone(words)
		p := Of(words, exe, "c")
		if !slices.Equal(words, before) {
			t.Fatal("the command line was modified")
		}
		if p.Script == "" && len(p.Args) > len(words) {
			t.Fatal("more arguments than words")
		}
		_ = p.Label()
	})
}
