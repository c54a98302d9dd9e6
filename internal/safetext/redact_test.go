// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"slices"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	tests := []struct {
		name     string
		in, want []string
	}{
		{"nothing", []string{"sleep", "100"}, []string{"sleep", "100"}},
		{"option with value", []string{"app", "--password=hunter2"}, []string{"app", "--password=***"}},
		{"value with blanks", []string{"app", "--password=two words"}, []string{"app", "--password=***"}},
		{"option then value", []string{"app", "--password", "hunter2", "-v"}, []string{"app", "--password", "***", "-v"}},
		{"value with one dash", []string{"app", "--token", "-s3cret"}, []string{"app", "--token", "***"}},
		{"option that asks", []string{"app", "--password", "--verbose"}, []string{"app", "--password", "--verbose"}},
		{"one dash", []string{"app", "-api-key", "k"}, []string{"app", "-api-key", "***"}},
		{"java property", []string{"java", "-Ddb.password=x", "-jar", "a.jar"}, []string{"java", "-Ddb.password=***", "-jar", "a.jar"}},
		{"environment", []string{"env", "GITHUB_TOKEN=abc", "AWS_SECRET_ACCESS_KEY=def", "MYSQL_PWD=x", "PGPASSWORD=y", "HOME=/root"},
			[]string{"env", "GITHUB_TOKEN=***", "AWS_SECRET_ACCESS_KEY=***", "MYSQL_PWD=***", "PGPASSWORD=***", "HOME=/root"}},
		{"upper case option", []string{"app", "--API-KEY=x"}, []string{"app", "--API-KEY=***"}},
		{"camel case", []string{"app", "--dbPassword=x"}, []string{"app", "--dbPassword=***"}},
		{"files are no secrets", []string{"app", "--password-file=/run/p", "--token-path", "/run/t", "PWD=/root"},
			[]string{"app", "--password-file=/run/p", "--token-path", "/run/t", "PWD=/root"}},
		{"no-password", []string{"psql", "--no-password", "db"}, []string{"psql", "--no-password", "db"}},
		{"token counts", []string{"vllm", "--max-tokens", "100", "--tokenizer", "x", "max_tokens=5"},
			[]string{"vllm", "--max-tokens", "100", "--tokenizer", "x", "max_tokens=5"}},
		{"mysql", []string{"mysql", "-uroot", "-psecret", "db"}, []string{"mysql", "-uroot", "-p***", "db"}},
		{"mysql asks", []string{"mysql", "-p", "db"}, []string{"mysql", "-p", "db"}},
		{"mysql behind sudo", []string{"sudo", "/usr/bin/mysqldump", "-psecret"}, []string{"sudo", "/usr/bin/mysqldump", "-p***"}},
		{"-p of another program", []string{"mkdir", "-pv", "x"}, []string{"mkdir", "-pv", "x"}},
		{"sshpass", []string{"sshpass", "-p", "secret", "ssh", "-p", "22", "h"}, []string{"sshpass", "-p", "***", "ssh", "-p", "***", "h"}},
		{"redis", []string{"redis-cli", "-a", "x", "ping"}, []string{"redis-cli", "-a", "***", "ping"}},
		{"curl user", []string{"curl", "-u", "joe:pw", "https://h/"}, []string{"curl", "-u", "joe:***", "https://h/"}},
		{"curl user attached", []string{"curl", "-ujoe:pw", "--proxy-user=a:b"}, []string{"curl", "-ujoe:***", "--proxy-user=a:***"}},
		{"curl user alone", []string{"curl", "-u", "joe"}, []string{"curl", "-u", "joe"}},
		{"curl option by name", []string{"curl", "--x-token", "abc"}, []string{"curl", "--x-token", "***"}},
		{"url", []string{"app", "postgres://joe:p%40ss@db:5432/x"}, []string{"app", "postgres://joe:***@db:5432/x"}},
		{"url without user", []string{"redis://:pw@h/0"}, []string{"redis://:***@h/0"}},
		{"url with token", []string{"git", "clone", "https://tok3n@github.com/a/b"}, []string{"git", "clone", "https://***@github.com/a/b"}},
		{"url of ssh", []string{"git", "clone", "ssh://git@github.com/a/b"}, []string{"git", "clone", "ssh://git@github.com/a/b"}},
		{"url with two ats", []string{"http://u:p@ss@h/"}, []string{"http://u:***@h/"}},
		{"query", []string{"curl", "https://h/?a=1&access_token=abc&b=2"}, []string{"curl", "https://h/?a=1&access_token=***&b=2"}},
		{"header", []string{"curl", "-H", "Authorization: Basic abc=="}, []string{"curl", "-H", "Authorization: ***"}},
		{"header of an api", []string{"curl", "-HX-Api-Key: abc"}, []string{"curl", "-HX-Api-Key: ***"}},
		{"cookie", []string{"wget", "--header=Cookie: a=b"}, []string{"wget", "--header=Cookie: ***"}},
		{"bearer", []string{"app", "bearer abc.def"}, []string{"app", "bearer ***"}},
		{"json", []string{"curl", "-d", `{"user":"joe","password":"two words","n":1}`}, []string{"curl", "-d", `{"user":"joe","password":"***","n":1}`}},
		{"shell", []string{"sh", "-c", "export TOKEN='a b'; mysql -psecret --password x && curl -u joe:pw https://h"},
			[]string{"sh", "-c", "export TOKEN=*** mysql -p*** --password *** && curl -u joe:*** https://h"}},
		{"process title", []string{"mysqldump -psecret db "}, []string{"mysqldump -p*** db "}},
		{"openssl", []string{"openssl", "rsa", "-passin", "pass:x"}, []string{"openssl", "rsa", "-passin", "pass:***"}},
		{"aws key", []string{"x", "AKIAIOSFODNN7EXAMPLE"}, []string{"x", "***"}},
		{"github token", []string{"x", "ghp_0123456789abcdefABCDEF"}, []string{"x", "***"}},
		{"jwt", []string{"x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_-"}, []string{"x", "***"}},
		{"private key", []string{"x", "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n"}, []string{"x", "***\n"}},
		{"option at the end", []string{"app", "--password"}, []string{"app", "--password"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := slices.Clone(tt.in)
			got := Redact(in)
			if !slices.Equal(got, tt.want) {
				t.Errorf("Redact(%q) = %q, want %q", tt.in, got, tt.want)
			}
			if !slices.Equal(in, tt.in) {
				t.Errorf("Redact changed its argument to %q", in)
			}
			if again := Redact(got); !slices.Equal(again, got) {
				t.Errorf("Redact is not idempotent: %q, then %q", got, again)
			}
		})
	}
}

// FuzzRedact: it neither crashes nor changes how many arguments there are, a
// second pass finds nothing more, and a named secret never survives.
func FuzzRedact(f *testing.F) {
	f.Add("sh", "-c", "mysql -psecret")
	f.Add("curl", "-u", "a:b")
	f.Add("x", "https://a:b@c@d", "Authorization: Bearer x")
	f.Add("", "=", "\xff\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		const secret = "zqXJ93vNNw"
		in := []string{a, b, c, "--db-password=" + secret, "TOKEN=" + secret}
		before := slices.Clone(in)
		got := Redact(in)
		if len(got) != len(in) || !slices.Equal(in, before) {
			t.Fatalf("Redact(%q) = %q, and left %q", before, got, in)
		}
		if strings.Contains(strings.Join(got[3:], " "), secret) {
			t.Errorf("Redact(%q) = %q: a secret survived", in, got)
		}
		if again := Redact(got); !slices.Equal(again, got) {
			t.Errorf("Redact is not idempotent: %q, then %q", got, again)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	for _, bb := range []struct {
		name string
		args []string
	}{
		{"clean", []string{"/usr/bin/python3", "-m", "gunicorn", "--workers", "4", "app:main"}},
		{"secret", []string{"app", "--password=hunter2", "postgres://joe:pw@db/x"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Redact(bb.args)
			}
		})
	}
}
