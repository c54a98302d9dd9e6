// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// testerEnv makes the test binary one of the processes that the tests look at.
const testerEnv = "ABOT_TEST_PROCFS"

func TestMain(m *testing.M) {
	switch os.Getenv(testerEnv) {
	case "":
		os.Exit(m.Run())
	case "wait": // says that it runs, lives until its standard input ends
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
	case "hidepid":
		exitWith(lookThroughHidepid())
	case "refused":
		exitWith(lookAsNobody(os.Args[1]))
	}
	os.Exit(0)
}

func exitWith(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// start runs the test binary as a tester, which is killed with the test. The
// returned function ends and reaps it.
func start(t *testing.T, mode string, change func(*exec.Cmd)) (pid int32, stop func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "one", "", "three")
	cmd.Env = []string{testerEnv + "=" + mode}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("tester says %q, %v", line, err)
	}
	done := false
	stop = func() {
		if !done {
			done = true
			in.Close()
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return int32(cmd.Process.Pid), stop
}

func open(t *testing.T, f FS, pid int32) *Process {
	t.Helper()
	p, err := f.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLiveProcess(t *testing.T) {
	pid, _ := start(t, "wait", func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "ABOT_TRACE_KEEP=1", "LONG="+strings.Repeat("x", 100_000))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	})
	p := open(t, FS{}, pid)

	st, err := p.Stat()
	if err != nil || st.PPID != int32(os.Getpid()) || st.Session != pid || st.PGrp != pid || st.TTY != 0 || st.Dead() {
		t.Errorf("stat: got %+v, %v", st, err)
	}
	status, err := p.Status()
	if err != nil || status.UID != uint32(os.Getuid()) || status.RSS == 0 ||
		!reflect.DeepEqual(status.NSTGID[0], pid) || status.SigIgn&(1<<31-1) != st.SigIgn || status.SigCgt&(1<<31-1) != st.SigCgt {
		t.Errorf("status: got %+v, %v", status, err)
	}
	if args, truncated, err := p.Cmdline(); err != nil || truncated ||
		!reflect.DeepEqual(args, []string{"/proc/self/exe", "one", "", "three"}) {
		t.Errorf("cmdline: got %q, %t, %v", args, truncated, err)
	}
	self, _ := os.Readlink("/proc/self/exe")
	if exe, err := p.Exe(); err != nil || exe != self {
		t.Errorf("exe: got %q, %v, want %q", exe, err, self)
	}
	if cwd, err := p.Cwd(); err != nil || cwd != "/" {
		t.Errorf("cwd: got %q, %v", cwd, err)
	}
	if marks, err := p.Marks(); err != nil || marks != (Marks{Keep: true}) {
		t.Errorf("marks: got %+v, %v", marks, err)
	}
	if c, err := p.Cgroups(); err != nil || c.Path() == "" {
		t.Errorf("cgroups: got %+v, %v", c, err)
	}
	o, err := p.Origin()
	if err != nil || o.Session != pid || !o.SessionOwn || o.Tty || o.HupIgnored || !o.StdioKnown {
		t.Errorf("origin: got %+v, %v", o, err)
	}
	if stdio, err := p.Stdio(); err != nil || stdio != o.Stdio {
		t.Errorf("stdio: got %+v, %v, want %+v", stdio, err, o.Stdio)
	}
}

// TestGone holds a handle over the death of its process.
func TestGone(t *testing.T) {
	pid, stop := start(t, "wait", nil)
	p := open(t, FS{}, pid)
	st, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	id := event.ID{PID: pid, Start: st.StartTicks * nsPerTick}
	if _, err := (FS{}).Origin(event.ID{PID: pid, Start: id.Start + nsPerTick}); !errors.Is(err, ErrGone) {
		t.Errorf("origin of an earlier owner of the pid: got %v, want %v", err, ErrGone)
	}
	if _, err := (FS{}).OpenID(event.ID{PID: pid, Start: id.Start - 1}); !errors.Is(err, ErrGone) {
		t.Errorf("open of an earlier owner of the pid: got %v, want %v", err, ErrGone)
	}
	stop()
	for name, read := range map[string]func() error{
		"stat":    func() error { _, err := p.Stat(); return err },
		"status":  func() error { _, err := p.Status(); return err },
		"cgroups": func() error { _, err := p.Cgroups(); return err },
		"exe":     func() error { _, err := p.Exe(); return err },
		"cwd":     func() error { _, err := p.Cwd(); return err },
		"cmdline": func() error { _, _, err := p.Cmdline(); return err },
		"marks":   func() error { _, err := p.Marks(); return err },
		"stdio":   func() error { _, err := p.Stdio(); return err },
		"origin":  func() error { _, err := p.Origin(); return err },
		"open":    func() error { _, err := (FS{}).OpenID(id); return err },
		"by id":   func() error { _, err := (FS{}).Origin(id); return err },
	} {
		if err := read(); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), fmt.Sprint("pid ", pid)) {
			t.Errorf("%s: got %v, want %v with the pid", name, err, ErrGone)
		}
	}
}

// TestZombie has a process that has ended and was not reaped: it shows no files,
// which must not be taken for files that it closed.
func TestZombie(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	p := open(t, FS{}, int32(cmd.Process.Pid))
	if st, err := p.Stat(); err != nil || !st.Dead() {
		t.Errorf("stat: got %+v, %v, want a dead process", st, err)
	}
	if o, err := p.Origin(); !errors.Is(err, ErrGone) {
		t.Errorf("origin: got %+v, %v, want %v", o, err, ErrGone)
	}
	if _, err := p.Stdio(); !errors.Is(err, ErrGone) {
		t.Errorf("stdio: got %v, want %v", err, ErrGone)
	}
	if _, err := p.Marks(); err == nil {
		t.Error("marks: want an error where there is no environment to read")
	}
	if exe, err := p.Exe(); exe != "" || err != nil {
		t.Errorf("exe: got %q, %v, want none", exe, err)
	}
	if args, _, err := p.Cmdline(); args != nil || err != nil {
		t.Errorf("cmdline: got %q, %v, want none", args, err)
	}
}

func TestStdioKinds(t *testing.T) {
	pid, _ := start(t, "wait", func(cmd *exec.Cmd) {
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { null.Close() })
		cmd.Stderr = null
	})
	stdio, err := open(t, FS{}, pid).Stdio()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{unix.S_IFIFO, unix.S_IFIFO, unix.S_IFCHR} {
		if stdio[i].Mode != want || stdio[i].Ino == 0 {
			t.Errorf("descriptor %d: got %+v, want type %#o", i, stdio[i], want)
		}
	}
	if !stdio[2].IsNull() || stdio[0].IsNull() {
		t.Errorf("null: got %+v", stdio)
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/0", pid), &st); err != nil {
		t.Fatal(err)
	}
	if stdio[0].Dev != st.Dev || stdio[0].Ino != st.Ino {
		t.Errorf("got device %#x inode %d, want as stat(2) %#x %d", stdio[0].Dev, stdio[0].Ino, st.Dev, st.Ino)
	}
}

// fakeRoot builds a procfs of files: name to content. A name of fd/N becomes a
// link to its content.
func fakeRoot(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.Contains(name, "/fd/") || strings.HasSuffix(name, "/exe") {
			err = os.Symlink(content, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return FS{Root: root}
}

func TestFakeOrigin(t *testing.T) {
	id := event.ID{PID: 4711, Start: 123456 * nsPerTick}
	null := map[string]string{"4711/fd/0": "/dev/null", "4711/fd/1": "/dev/null"}
	with := func(stat string) map[string]string {
		files := map[string]string{"4711/stat": stat}
		for name, to := range null {
			files[name] = to
		}
		return files
	}
	o, err := fakeRoot(t, with(statLine("foo) Z ", "S"))).Origin(id)
	if err != nil || o.Session != 4710 || o.SessionOwn || !o.HupIgnored || !o.Tty || !o.StdioKnown {
		t.Errorf("got %+v, %v", o, err)
	}
	if !o.Stdio[0].IsNull() || !o.Stdio[1].IsNull() || o.Stdio[2].Known() {
		t.Errorf("stdio: got %+v, want null, null, closed", o.Stdio)
	}
	// The leader has ended, two threads have not: no files to be seen.
	o, err = fakeRoot(t, with(statLine("x", "Z"))).Origin(id)
	if !errors.Is(err, ErrLeaderEnded) || o.StdioKnown || o.Session != 4710 {
		t.Errorf("leader ended: got %+v, %v", o, err)
	}
	if _, err = fakeRoot(t, with("garbage")).Origin(id); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("garbage: got %v, want an error that is not %v", err, ErrGone)
	}
	if _, err = fakeRoot(t, nil).Origin(id); !errors.Is(err, ErrGone) {
		t.Errorf("nothing there: got %v, want %v", err, ErrGone)
	}
}

func TestFakeBounds(t *testing.T) {
	f := fakeRoot(t, map[string]string{
		"7/stat":    statLine("x", "S"),
		"7/exe":     "/usr/bin/python3.11 (deleted)",
		"7/cmdline": strings.Repeat("a", MaxCmdline-1) + "\x00" + "b\x00",
		"7/status":  strings.Replace(statusText, "Groups:\t ", "Groups:\t"+strings.Repeat("4294967295 ", 60_000), 1),
		"7/environ": strings.Repeat("X", maxEnviron+1),
	})
	p := open(t, f, 7)
	if exe, err := p.Exe(); err != nil || exe != "/usr/bin/python3.11" {
		t.Errorf("exe: got %q, %v", exe, err)
	}
	if args, truncated, err := p.Cmdline(); err != nil || !truncated || len(args) != 1 || len(args[0]) != MaxCmdline-1 {
		t.Errorf("cmdline: got %d arguments, %t, %v, want the first, truncated", len(args), truncated, err)
	}
	if status, err := p.Status(); err != nil || status.SigIgn != 1 {
		t.Errorf("status with 60,000 groups: got %+v, %v", status, err)
	}
	if _, err := p.Marks(); !errors.Is(err, errEnvLong) {
		t.Errorf("environ: got %v, want %v", err, errEnvLong)
	}
}

func TestEmptyEnviron(t *testing.T) {
	for name, tt := range map[string]struct {
		env  string // the last two of the memory addresses
		want error
	}{
		"between two programs": {" 0 0 0\n", errEnvUnset},
		"not read":             {" 142 143 0\n", errEnvUnset},
		"truly empty":          {" 142 142 0\n", nil},
	} {
		stat := strings.Replace(statLine("x", "S"), " 142 143 0\n", tt.env, 1)
		p := open(t, fakeRoot(t, map[string]string{"7/stat": stat, "7/environ": ""}), 7)
		if marks, err := p.Marks(); !errors.Is(err, tt.want) || marks != (Marks{}) {
			t.Errorf("%s: got %+v, %v, want %v", name, marks, err, tt.want)
		}
	}
}

// requireRoot skips on a developer's machine; where CI runs, the proof is owed.
func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root")
	}
	t.Skip("needs root")
}

// TestHidden is the probe error on record: a process that hidepid conceals must not
// be taken for a dead one. The tester mounts its own /proc, in its own namespace.
func TestHidden(t *testing.T) {
	requireRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{testerEnv + "=hidepid"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS, // makes the mounts private too
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

const nobody = 65534

// becomeNobody drops the groups too: hidepid exempts group 0.
func becomeNobody() error {
	return errors.Join(syscall.Setgroups(nil), syscall.Setregid(nobody, nobody), syscall.Setreuid(nobody, nobody))
}

func lookThroughHidepid() error {
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	sleeper := exec.Command("/bin/sleep", "30")
	if err := sleeper.Start(); err != nil {
		return err
	}
	pid := int32(sleeper.Process.Pid) // it ends with this namespace
	if err := becomeNobody(); err != nil {
		return err
	}
	_, err := FS{}.Open(pid)
	if !errors.Is(err, ErrHidden) || !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrGone) {
		return fmt.Errorf("hidden process: got %v, want %v", err, ErrHidden)
	}
	if _, err := (FS{}).Open(30_000); !errors.Is(err, ErrGone) {
		return fmt.Errorf("no such process: got %v, want %v", err, ErrGone)
	}
	return nil
}

// TestRefused: what another user's process keeps to itself is a refusal that can be
// told from all else. Stat and thus most of Origin stays readable.
func TestRefused(t *testing.T) {
	requireRoot(t)
	// A session of its own: what init runs without one has a session that reads 0.
	pid, _ := start(t, "wait", func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} })
	cmd := exec.Command("/proc/self/exe", fmt.Sprint(pid))
	cmd.Env = []string{testerEnv + "=refused"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func lookAsNobody(arg string) error {
	pid, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	if err := becomeNobody(); err != nil {
		return err
	}
	p, err := FS{}.Open(int32(pid))
	if err != nil {
		return err
	}
	defer p.Close()
	_, exe := p.Exe()
	_, marks := p.Marks()
	_, stdio := p.Stdio()
	o, origin := p.Origin()
	for what, err := range map[string]error{"exe": exe, "marks": marks, "stdio": stdio, "origin": origin} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrGone) || errors.Is(err, ErrHidden) {
			return fmt.Errorf("%s: got %v, want %v", what, err, fs.ErrPermission)
		}
	}
	if o.Session == 0 || o.StdioKnown {
		return fmt.Errorf("origin: got %+v, want a session without stdio", o)
	}
	return nil
}

func BenchmarkOrigin(b *testing.B) {
	st, err := FS{}.Stat(int32(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	id := event.ID{PID: st.PID, Start: st.StartTicks * nsPerTick}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (FS{}).Origin(id); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMarksOfAPerlTitle reads the marks of a process that has written its title over its
// environment: that nothing is found there says nothing.
func TestMarksOfAPerlTitle(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		want       error
	}{
		{"untouched", `$| = 1; print "set\n"; sleep 300`, nil},
		{"overwritten", `$| = 1; $0 = "t" x 2000; print "set\n"; sleep 300`, errEnvTorn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("perl", "-e", tt.code)
			cmd.Env = []string{"A=" + strings.Repeat("x", 500), "ABOT_TRACE_KEEP=1", "PATH=/usr/bin:/bin"}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			if _, err := out.Read(make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			p, err := FS{}.Open(int32(cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if marks, err := p.Marks(); !errors.Is(err, tt.want) || (err == nil) != marks.Keep {
				t.Errorf("got %+v, %v, want %v", marks, err, tt.want)
			}
		})
	}
}
