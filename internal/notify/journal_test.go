// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// journald is a socket that receives like journald.
type journald struct {
	path string
	conn *net.UnixConn
}

func listenJournald(t *testing.T, path string) *journald {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &journald{path, conn}
}

// receive returns the next record, decoded by the protocol's own rules.
func (j *journald) receive(t *testing.T) map[string][]string {
	t.Helper()
	buf, oob := make([]byte, 256<<10), make([]byte, 256)
	if err := j.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, oobn, _, _, err := j.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	data := buf[:n]
	if oobn > 0 {
		data = memfile(t, oob[:oobn])
	}
	fields, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// memfile reads the record that was passed as a sealed file.
func memfile(t *testing.T, oob []byte) []byte {
	t.Helper()
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		t.Fatalf("control messages %v, %v", msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v, %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "memfd")
	defer f.Close()
	// journald takes no file that could change under it.
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals != want {
		t.Errorf("seals %#x, %v, want %#x", seals, err, want)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// decode reads the native protocol, both forms of it.
func decode(data []byte) (map[string][]string, error) {
	out := map[string][]string{}
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte{'\n'})
		if !ok {
			return nil, fmt.Errorf("unterminated line %q", line)
		}
		if name, value, simple := bytes.Cut(line, []byte{'='}); simple {
			out[string(name)] = append(out[string(name)], string(value))
			data = rest
			continue
		}
		if len(rest) < 8 {
			return nil, fmt.Errorf("field %q: no length", line)
		}
		size := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if uint64(len(rest)) < size+1 || rest[size] != '\n' {
			return nil, fmt.Errorf("field %q: length %d", line, size)
		}
		out[string(line)] = append(out[string(line)], string(rest[:size]))
		data = rest[size+1:]
	}
	return out, nil
}

func closeJournal(t *testing.T, j *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestHostileValuesForgeNothing(t *testing.T) {
	server := listenJournald(t, filepath.Join(t.TempDir(), "j"))
	j := NewJournal(server.path)
	defer closeJournal(t, j)
	hostile := "x\nPRIORITY=0\nMESSAGE_ID\n\x04\x00\x00\x00\x00\x00\x00\x00fake\n"
	if !j.Send(Record{Severity: SeverityInfo, Message: hostile, Fields: []Field{{"ABOT_COMM", hostile}, {"ABOT_PID", "7"}}}) {
		t.Fatal("dropped")
	}
	got := server.receive(t)
	want := map[string]string{"MESSAGE": hostile, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "abot-trace", "ABOT_COMM": hostile, "ABOT_PID": "7"}
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d: %q", len(got), len(want), got)
	}
	for name, value := range want {
		if len(got[name]) != 1 || got[name][0] != value {
			t.Errorf("%s = %q, want %q once", name, got[name], value)
		}
	}
}

func TestBigRecordComesAsFile(t *testing.T) {
	server := listenJournald(t, filepath.Join(t.TempDir(), "j"))
	// Larger than what a socket buffer takes at once.
	big := strings.Repeat("b", 1<<20)
	j := NewJournal(server.path)
	defer closeJournal(t, j)
	if !j.Send(Record{Message: "big", Fields: []Field{{"ABOT_BIG", big}}}) {
		t.Fatal("dropped")
	}
	got := server.receive(t)
	if len(got["ABOT_BIG"]) != 1 || got["ABOT_BIG"][0] != big {
		t.Error("the big value did not arrive whole")
	}
}

// A journald that does not read, as one that is stopped: Send does not wait, the
// queue is bounded, and the loss is told when it reads again.
func TestStoppedJournald(t *testing.T) {
	server := listenJournald(t, filepath.Join(t.TempDir(), "j"))
	j := NewJournal(server.path)
	accepted := 0
	for j.Dropped() < 10 {
		if j.Send(Record{Message: fmt.Sprint("record ", accepted)}) {
			accepted++
		}
		if accepted > 2*queueRecords+1000 {
			t.Fatal("the queue is not bounded")
		}
	}
	// It may be told in parts, as some room was found in between.
	told := 0
	for received := 0; received < accepted || told < 10; {
		got := server.receive(t)
		if id := got["MESSAGE_ID"]; len(id) == 1 && id[0] == DroppedID {
			var part int
			if _, err := fmt.Sscan(got["ABOT_LOST"][0], &part); err != nil {
				t.Fatal(err)
			}
			told += part
			continue
		}
		if want := fmt.Sprint("record ", received); got["MESSAGE"][0] != want {
			t.Fatalf("got %q, want %q: order or a record was lost", got["MESSAGE"][0], want)
		}
		received++
	}
	if told != 10 {
		t.Errorf("told %d dropped records, want 10", told)
	}
	closeJournal(t, j)
}

func TestBytesAreBounded(t *testing.T) {
	j := NewJournal(filepath.Join(t.TempDir(), "absent"))
	big := Record{Message: strings.Repeat("x", 1<<20)}
	accepted := 0
	for range 2 * queueBytes >> 20 {
		if j.Send(big) {
			accepted++
		}
	}
	if j.Dropped() < queueBytes>>20 {
		t.Errorf("%d dropped: more than %d bytes wait", j.Dropped(), queueBytes)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	want := fmt.Sprintf("journald: %d records were not sent", accepted)
	if err := j.Close(ended); err == nil || err.Error() != want {
		t.Errorf("Close = %v, want %q", err, want)
	}
}

// journald is absent at first, comes, goes and comes again: every record arrives.
func TestJournaldRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := NewJournal(path)
	defer closeJournal(t, j)
	j.Send(Record{Message: "before"})
	server := listenJournald(t, path)
	if got := server.receive(t); got["MESSAGE"][0] != "before" {
		t.Errorf("got %q", got["MESSAGE"])
	}
	server.conn.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	j.Send(Record{Message: "meanwhile"})
	server = listenJournald(t, path)
	if got := server.receive(t); got["MESSAGE"][0] != "meanwhile" {
		t.Errorf("got %q", got["MESSAGE"])
	}
}

func TestSendAfterClose(t *testing.T) {
	server := listenJournald(t, filepath.Join(t.TempDir(), "j"))
	j := NewJournal(server.path)
	closeJournal(t, j)
	if j.Send(Record{Message: "late"}) || j.Dropped() != 1 {
		t.Errorf("a record after Close was not counted as dropped: %d", j.Dropped())
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("plain", "x\nPRIORITY=0\n")
	f.Add("", "\x00\xff")
	f.Fuzz(func(t *testing.T, message, value string) {
		fields, err := decode(encode(Record{Message: message, Fields: []Field{{"ABOT_COMM", value}}}))
		if err != nil {
			t.Fatal(err)
		}
		if len(fields) != 4 || fields["MESSAGE"][0] != message || fields["ABOT_COMM"][0] != value {
			t.Errorf("%q, %q came back as %q", message, value, fields)
		}
	})
}
