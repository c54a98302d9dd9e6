// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

// AppendEvent appends the event's JSON, byte for byte what [json.Marshal] returns, and a
// newline. The stream is the one document that is written as fast as processes come and
// go, and this takes a seventh of the time. Where Marshal fails nothing is appended but
// the error's text in an object: no event holds a value that JSON cannot have.
func AppendEvent(b []byte, e *Event) []byte {
	b = append(b, `{"schema":`...)
	b = strconv.AppendInt(b, int64(e.Schema), 10)
	b = appendText(b, `,"id":`, e.ID)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	if e.NotableSeq != 0 {
		b = append(b, `,"notable_seq":`...)
		b = strconv.AppendUint(b, e.NotableSeq, 10)
	}
	b = appendTime(b, `,"time":`, e.Time)
	b = append(b, `,"time_ns":`...)
	b = strconv.AppendUint(b, e.TimeNS, 10)
	b = appendText(b, `,"type":`, e.Type)
	if e.Process != nil {
		b = append(b, `,"process":`...)
		b = AppendProcess(b, e.Process)
	}
	for _, appendOwn := range ownObjects {
		b = appendOwn(b, e)
	}
	if e.Sample != nil {
		b = appendSample(b, e)
	}
	return append(b, '}', '\n')
}

var appendSample = object("sample", func(e *Event) *Sample { return e.Sample })

// AppendTree appends the document's JSON, byte for byte what [json.Marshal] returns.
func AppendTree(b []byte, t *Tree) []byte {
	b = append(b, `{"schema":`...)
	b = strconv.AppendInt(b, int64(t.Schema), 10)
	b = appendText(b, `,"host":`, t.Host)
	b = appendTime(b, `,"time":`, t.Time)
	b = append(b, `,"complete":`...)
	b = strconv.AppendBool(b, t.Complete)
	b = append(b, `,"processes":`...)
	if t.Processes == nil {
		return append(b, `null}`...)
	}
	for i := range t.Processes {
		b = append(b, "[,"[min(i, 1)])
		b = AppendProcess(b, &t.Processes[i])
	}
	if len(t.Processes) == 0 {
		b = append(b, '[')
	}
	return append(b, "]}"...)
}

// AppendProcess appends the process's JSON, byte for byte what [json.Marshal] returns.
func AppendProcess(b []byte, p *Process) []byte {
	b = append(b, `{"pid":`...)
	b = strconv.AppendInt(b, int64(p.PID), 10)
	b = optional(b, `,"host_pid":`, p.HostPID)
	b = append(b, `,"start_ns":`...)
	b = strconv.AppendUint(b, p.StartNS, 10)
	b = optional(b, `,"ppid":`, p.PPID)
	b = optionalText(b, `,"comm":`, p.Comm)
	b = optionalText(b, `,"exe":`, p.Exe)
	b = optionalText(b, `,"cwd":`, p.Cwd)
	if len(p.Ports) > 0 {
		b = appendRare(b, `,"ports":`, &p.Ports)
	}
	b = optionalTexts(b, `,"cmdline":`, p.Cmdline)
	b = optionalTrue(b, `,"cmdline_truncated":`, p.Truncated)
	if p.UID != nil {
		b = append(b, `,"uid":`...)
		b = strconv.AppendUint(b, uint64(*p.UID), 10)
	}
	b = optionalText(b, `,"user":`, p.User)
	b = optionalText(b, `,"cgroup":`, p.Cgroup)
	b = optionalText(b, `,"unit":`, p.Unit)
	b = optionalText(b, `,"container":`, p.Container)
	b = optionalText(b, `,"container_name":`, p.ContainerName)
	b = optionalText(b, `,"container_image":`, p.ContainerImage)
	b = appendRare(b, `,"pod":`, p.Pod)
	b = appendText(b, `,"state":`, p.State)
	b = optionalTime(b, `,"started_at":`, p.StartedAt)
	b = optionalRef(b, `,"spawned_by":`, p.SpawnedBy)
	b = optionalRef(b, `,"caller":`, p.Caller)
	b = appendText(b, `,"lineage":`, p.Lineage)
	b = optionalTrue(b, `,"kernel_thread":`, p.Kthread)
	b = optionalCount(b, `,"rss_bytes":`, p.RSSBytes)
	b = optionalCount(b, `,"swap_bytes":`, p.SwapBytes)
	b = optionalFloat(b, `,"cpu_percent":`, p.CPUPercent)
	b = optionalFloat(b, `,"cpu_seconds":`, p.CPUSeconds)
	b = optional(b, `,"threads":`, p.Threads)
	b = optionalCount(b, `,"peak_rss_bytes":`, p.PeakRSS)
	b = optionalExit(b, p.Exit)
	b = optionalTime(b, `,"exited_at":`, p.ExitedAt)
	if p.Orphan != nil {
		b = append(b, `,"orphan":`...)
		b = appendOrphan(b, p.Orphan)
	}
	return append(b, '}')
}

func appendOrphan(b []byte, o *Orphan) []byte {
	b = append(b, '{')
	if o.Since != nil {
		b = appendTime(b, `"since":`, *o.Since)
		b = append(b, ',')
	}
	if o.SinceNS != 0 {
		b = append(b, `"since_ns":`...)
		b = strconv.AppendUint(b, o.SinceNS, 10)
		b = append(b, ',')
	}
	b = append(b, `"direct":`...)
	b = strconv.AppendBool(b, o.Direct)
	if l := o.Leaker; l != nil {
		b = append(b, `,"leaker":{"pid":`...)
		b = strconv.AppendInt(b, int64(l.PID), 10)
		b = append(b, `,"start_ns":`...)
		b = strconv.AppendUint(b, l.StartNS, 10)
		b = optionalText(b, `,"comm":`, l.Comm)
		b = optionalTexts(b, `,"cmdline":`, l.Cmdline)
		b = optionalExit(b, l.Exit)
		b = append(b, '}')
	}
	if a := o.Adopter; a != nil {
		b = append(b, `,"adopter":{"pid":`...)
		b = strconv.AppendInt(b, int64(a.PID), 10)
		b = optionalText(b, `,"comm":`, a.Comm)
		b = optionalText(b, `,"kind":`, a.Kind)
		b = append(b, `,"confirmed":`...)
		b = strconv.AppendBool(b, a.Confirmed)
		b = append(b, '}')
	}
	b = appendText(b, `,"verdict":`, o.Verdict)
	b = optionalTrue(b, `,"provisional":`, o.Provisional)
	b = optionalText(b, `,"stdio":`, o.Stdio)
	b = append(b, `,"evidence":`...)
	if o.Evidence == nil {
		b = append(b, `null`...)
	} else {
		b = appendTexts(b, o.Evidence)
	}
	b = optionalText(b, `,"leak":`, o.Leak)
	if u := o.Tree; u != nil {
		b = append(b, `,"tree":{"processes":`...)
		b = strconv.AppendInt(b, int64(u.Processes), 10)
		b = optionalCount(b, `,"rss_bytes":`, u.RSSBytes)
		b = optionalCount(b, `,"swap_bytes":`, u.SwapBytes)
		b = optionalFloat(b, `,"cpu_percent":`, u.CPUPercent)
		b = append(b, '}')
	}
	return append(b, '}')
}

func optionalExit(b []byte, x *Exit) []byte {
	if x == nil {
		return b
	}
	b = append(b, `,"exit":`...)
	mark := len(b)
	if x.Code != nil {
		b = append(b, `,"code":`...)
		b = strconv.AppendInt(b, int64(*x.Code), 10)
	}
	b = optionalText(b, `,"signal":`, x.Signal)
	b = optionalTrue(b, `,"core":`, x.Core)
	b = optionalTrue(b, `,"oom":`, x.OOM)
	b = optionalRef(b, `,"killed_by":`, x.KilledBy)
	b = appendRare(b, `,"asked_by":`, x.AskedBy)
	if len(b) == mark {
		return append(b, '{', '}')
	}
	b[mark] = '{' // in the place of the first comma
	return append(b, '}')
}

func optionalRef(b []byte, name string, r *Ref) []byte {
	if r == nil {
		return b
	}
	b = append(b, name...)
	b = append(b, `{"pid":`...)
	b = strconv.AppendInt(b, int64(r.PID), 10)
	if r.StartNS != 0 {
		b = append(b, `,"start_ns":`...)
		b = strconv.AppendUint(b, r.StartNS, 10)
	}
	b = optionalText(b, `,"comm":`, r.Comm)
	return append(b, '}')
}

func optional[T int | int32](b []byte, name string, n T) []byte {
	if n == 0 {
		return b
	}
	b = append(b, name...)
	return strconv.AppendInt(b, int64(n), 10)
}

func optionalCount(b []byte, name string, n *uint64) []byte {
	if n == nil {
		return b
	}
	b = append(b, name...)
	return strconv.AppendUint(b, *n, 10)
}

func optionalTrue(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	b = append(b, name...)
	return append(b, `true`...)
}

func optionalText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(b, name, s)
}

func optionalTexts(b []byte, name string, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, name...)
	return appendTexts(b, list)
}

func appendTexts(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, "", s)
	}
	return append(b, ']')
}

func appendText(b []byte, name, s string) []byte {
	b = append(b, name...)
	if !plain(s) {
		return appendAny(b, s)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// plain reports whether s stands in JSON as it is: printable ASCII without what
// encoding/json escapes.
func plain(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if special(uint64(s[0])|uint64(s[1])<<8|uint64(s[2])<<16|uint64(s[3])<<24|
			uint64(s[4])<<32|uint64(s[5])<<40|uint64(s[6])<<48|uint64(s[7])<<56) != 0 {
			return false
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// special is not 0 where one of the word's eight bytes does not stand in JSON as it is.
// Which one it does not tell.
func special(w uint64) uint64 {
	const each, top = 0x0101010101010101, 0x8080808080808080
	below := func(w, c uint64) uint64 { return (w - c*each) &^ w } // top bit: less than c
	is := func(w, c uint64) uint64 { return below(w^c*each, 1) }
	return top & (w | below(w, ' ') | is(w, 0x7f) | is(w, '\\') |
		is(w|4*each, '"'|4) /* and & */ | is(w|2*each, '<'|2) /* and > */)
}

func optionalTime(b []byte, name string, t *time.Time) []byte {
	if t == nil {
		return b
	}
	return appendTime(b, name, *t)
}

// A second is the text of the second that was written last, in its zone: most events
// fall into the same one, with two or three instants each.
type second struct {
	unix       int64
	zone       *time.Location
	text, tail string // before and after the fraction
}

var lastSecond atomic.Pointer[second]

func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(b, name...)
	s := lastSecond.Load()
	if s == nil || s.unix != t.Unix() || s.zone != t.Location() {
		if y := t.Year(); y < 0 || y > 9999 {
			return appendAny(b, t)
		}
		const layout = "2006-01-02T15:04:05"
		s = &second{t.Unix(), t.Location(), t.Format(layout), t.Format("Z07:00")}
		lastSecond.Store(s)
	}
	b = append(b, '"')
	b = append(b, s.text...)
	b = appendFraction(b, t.Nanosecond())
	b = append(b, s.tail...)
	return append(b, '"')
}

// pairs are the numbers below 100, of two digits each.
var pairs = func() (p [200]byte) {
	for i := range p {
		p[i] = '0' + byte([2]int{i / 20, i / 2 % 10}[i%2])
	}
	return p
}()

// appendFraction writes the fraction of a second without the zeros at its end, as
// [time.RFC3339Nano] has it.
func appendFraction(b []byte, ns int) []byte {
	if ns == 0 {
		return b
	}
	b = append(b, ".000000000"...)
	digits := b[len(b)-9:]
	rest := uint32(ns)
	for i := 7; i > 0; i -= 2 {
		copy(digits[i:], pairs[rest%100*2:][:2])
		rest /= 100
	}
	digits[0] += byte(rest)
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// optionalFloat writes as encoding/json does where the value needs no exponent.
func optionalFloat(b []byte, name string, f *float64) []byte {
	if f == nil {
		return b
	}
	b = append(b, name...)
	if abs := math.Abs(*f); abs != 0 && (abs < 1e-6 || !(abs < 1e21)) {
		return appendAny(b, *f)
	}
	return strconv.AppendFloat(b, *f, 'f', -1, 64)
}

// appendRare appends an object of a kind that does not come often.
func appendRare[T any](b []byte, name string, v *T) []byte {
	if v == nil {
		return b
	}
	return appendAny(append(b, name...), v)
}

// appendAny leaves the value to encoding/json.
func appendAny(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		text, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return append(b, text...)
}
