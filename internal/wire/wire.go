// SPDX-License-Identifier: Apache-2.0

// Package wire holds the JSON that users script against: what the commands print
// with --json, what the socket serves and what hooks receive. Names here are a
// contract. Unknown values are absent, never zero. Times are RFC 3339 with
// nanoseconds; fields that end in _ns are CLOCK_BOOTTIME; bytes, seconds and
// percent are told by the suffix.
package wire

import "time"

// Schema is the version of the documents and events of this package.
const Schema = 1

// Process states.
const (
	StateRunning = "running"
	StateDead    = "dead"
)

// Lineage sources.
const (
	LineageObserved = "observed" // from events
	LineageInferred = "inferred" // from a snapshot after a gap
	LineageUnknown  = "unknown"  // older than the tracer
)

// Verdicts.
const (
	VerdictLeaked     = "leaked"
	VerdictDeliberate = "deliberate"
	VerdictUnknown    = "unknown"
)

// Ref names a process briefly.
type Ref struct {
	PID     int32  `json:"pid"`
	StartNS uint64 `json:"start_ns,omitempty"`
	Comm    string `json:"comm,omitempty"`
}

// Exit is how a process ended: Code or Signal is set.
type Exit struct {
	Code     *int   `json:"code,omitempty"`
	Signal   string `json:"signal,omitempty"` // "SIGKILL"
	Core     bool   `json:"core,omitempty"`
	OOM      bool   `json:"oom,omitempty"`
	KilledBy *Ref   `json:"killed_by,omitempty"`
	// AskedBy is who had asked it to end shortly before, by a signal that it caught.
	AskedBy *Asked `json:"asked_by,omitempty"`
}

// Asked is a signal that asked a process to end, Seconds before it did.
type Asked struct {
	PID     int32    `json:"pid,omitempty"` // absent where the kernel asked: a terminal's hangup
	StartNS uint64   `json:"start_ns,omitempty"`
	Comm    string   `json:"comm,omitempty"`
	Cmdline []string `json:"cmdline,omitempty"`
	Signal  string   `json:"signal"`
	Seconds float64  `json:"seconds"`
}

// Process is one process, living or dead.
type Process struct {
	PID       int32    `json:"pid"`
	HostPID   int32    `json:"host_pid,omitempty"` // where it differs from pid
	StartNS   uint64   `json:"start_ns"`
	PPID      int32    `json:"ppid,omitempty"` // the kernel parent now
	Comm      string   `json:"comm,omitempty"`
	Exe       string   `json:"exe,omitempty"`
	Cwd       string   `json:"cwd,omitempty"`   // only where it was asked for
	Ports     []Port   `json:"ports,omitempty"` // the same
	Cmdline   []string `json:"cmdline,omitempty"`
	Truncated bool     `json:"cmdline_truncated,omitempty"`
	UID       *uint32  `json:"uid,omitempty"`
	User      string   `json:"user,omitempty"`
	Cgroup    string   `json:"cgroup,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Container string   `json:"container,omitempty"` // its id
	// ContainerName, ContainerImage and Pod are what root's own files say of the container.
	ContainerName  string     `json:"container_name,omitempty"`
	ContainerImage string     `json:"container_image,omitempty"`
	Pod            *Pod       `json:"pod,omitempty"`
	State          string     `json:"state"`
	StartedAt      *time.Time `json:"started_at,omitempty"`
	SpawnedBy      *Ref       `json:"spawned_by,omitempty"`
	Caller         *Ref       `json:"caller,omitempty"` // under CLONE_PARENT, who called fork
	Lineage        string     `json:"lineage"`
	Kthread        bool       `json:"kernel_thread,omitempty"`
	RSSBytes       *uint64    `json:"rss_bytes,omitempty"`
	SwapBytes      *uint64    `json:"swap_bytes,omitempty"`
	CPUPercent     *float64   `json:"cpu_percent,omitempty"`
	CPUSeconds     *float64   `json:"cpu_seconds,omitempty"`
	Threads        int        `json:"threads,omitempty"`
	PeakRSS        *uint64    `json:"peak_rss_bytes,omitempty"` // dead processes: an upper bound
	Exit           *Exit      `json:"exit,omitempty"`
	ExitedAt       *time.Time `json:"exited_at,omitempty"`
	Orphan         *Orphan    `json:"orphan,omitempty"`
}

// Pod is the Kubernetes pod of a container.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// FullName is namespace/name, empty of no pod.
func (p *Pod) FullName() string {
	if p == nil {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

// Event is one record of the stream. It carries its own object under the name of
// its type.
type Event struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"` // unique: machine, boot, epoch, sequence
	Seq    uint64 `json:"seq"`
	// NotableSeq counts the notable events of one machine without a gap, as long as its history
	// is not purged; 0 where none is kept, and of others.
	NotableSeq uint64    `json:"notable_seq,omitempty"`
	Time       time.Time `json:"time"`
	TimeNS     uint64    `json:"time_ns"`
	Type       string    `json:"type"`
	Process    *Process  `json:"process,omitempty"`
	// Own objects, in the order of EventTypes.
	OOM     *OOM           `json:"oom,omitempty"`
	Signal  *Signal        `json:"signal,omitempty"`
	Kill    *Kill          `json:"kill,omitempty"`
	Alert   *Alert         `json:"alert,omitempty"`
	Lost    *Lost          `json:"lost,omitempty"`
	Resync  *Resync        `json:"resync,omitempty"`
	Verdict *VerdictChange `json:"verdict,omitempty"`
	Caught  *Signal        `json:"caught,omitempty"`
	Leak    *Leak          `json:"leak,omitempty"`
	Trust   *Trust         `json:"trust,omitempty"`
	// Sample is in what replay reads of a history, and in no stream.
	Sample *Sample `json:"sample,omitempty"`
}

// TypeSample is the type of what was measured, for who asks a history for it.
const TypeSample = "sample"

// Sample is what was measured at one time.
type Sample struct {
	// Host is by the names that expressions of rules use.
	Host map[string]float64 `json:"host,omitempty"`
	// Processes are those that are kept, and use something else than at the sample before.
	Processes []Sampled `json:"processes,omitempty"`
}

// Sampled is what one process used; nothing where it is not measured any more.
type Sampled struct {
	PID       int32   `json:"pid"`
	StartNS   uint64  `json:"start_ns"`
	RSSBytes  *uint64 `json:"rss_bytes,omitempty"`
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
}

// VerdictChange is what was held of an orphan before, and what has changed that.
type VerdictChange struct {
	Previous string `json:"previous"`
	Reason   string `json:"reason"`
}

// Signal is a signal and its sender.
type Signal struct {
	Signal string `json:"signal"`
	// Effect is, of one that is not fatal, what becomes of it: "caught", "blocked" or
	// "ignored".
	Effect string  `json:"effect,omitempty"`
	Sender *Sender `json:"sender,omitempty"`
	// Suppressed is how many that were caught were not told of since the last one.
	Suppressed uint32 `json:"suppressed,omitempty"`
}

// Sender is the process that sent a signal, with those that spawned it, nearest first.
type Sender struct {
	PID       int32    `json:"pid"`
	StartNS   uint64   `json:"start_ns,omitempty"`
	Comm      string   `json:"comm,omitempty"`
	Cmdline   []string `json:"cmdline,omitempty"`
	UID       uint32   `json:"uid"`
	Ancestors []Ref    `json:"ancestors,omitempty"`
}

// OOM is a choice of the OOM killer.
type OOM struct {
	RSSBytes uint64 `json:"rss_bytes,omitempty"`
	Cgroup   string `json:"cgroup,omitempty"`
}

// Lost says how many records were lost, and since when.
type Lost struct {
	Records uint64 `json:"records"`
	SinceNS uint64 `json:"since_ns"`
	// Where is what they were lost from: LostFromHistory, or the stream, where it is empty.
	Where string `json:"where,omitempty"`
}

// Resync says what a new snapshot changed.
type Resync struct {
	Reason   string `json:"reason"`
	Found    int    `json:"found"`
	Vanished int    `json:"vanished"`
}

// Kill is one act of a rule upon one tree, or what it would have been.
type Kill struct {
	KillID       string  `json:"kill_id"`
	Rule         string  `json:"rule"`
	Mode         string  `json:"mode"`
	Scope        string  `json:"scope"`
	Signal       string  `json:"signal,omitempty"`
	GraceSeconds float64 `json:"grace_seconds"`
	Verdict      string  `json:"verdict,omitempty"` // of the root; none where a person ends what is no orphan
	Reason       string  `json:"reason,omitempty"`
	// Leak, Fingerprint and Name are of the leak whose trees it ends, where they are of one.
	Leak        string `json:"leak,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Name        string `json:"name,omitempty"`
	// Unit, Container and User are the leaker's; of a tree that is part of no leak, its root's.
	Unit          string `json:"unit,omitempty"`
	Container     string `json:"container,omitempty"`
	ContainerName string `json:"container_name,omitempty"`
	User          string `json:"user,omitempty"`
	// RequestedBy is who asked for it, nil where a rule acted by itself.
	RequestedBy *Requester `json:"requested_by,omitempty"`
	Processes   []Killed   `json:"processes"`
	FreedBytes  uint64     `json:"freed_bytes,omitempty"`
	Outcome     string     `json:"outcome"`
}

// Bytes is what the processes of a kill held in memory and swap, as far as it was sampled.
func (k *Kill) Bytes() (sum uint64) {
	for i := range k.Processes {
		for _, part := range []*uint64{k.Processes[i].RSSBytes, k.Processes[i].SwapBytes} {
			if part != nil {
				sum += *part
			}
		}
	}
	return sum
}

// Requester is the process that asked for a kill, as it was when it connected.
type Requester struct {
	UID  uint32 `json:"uid"`
	PID  int32  `json:"pid,omitempty"` // absent where it is in a pid namespace that the daemon does not see
	Comm string `json:"comm,omitempty"`
}

// Killed is the outcome for one process of a Kill.
type Killed struct {
	PID       int32   `json:"pid"`
	StartNS   uint64  `json:"start_ns"`
	Comm      string  `json:"comm,omitempty"`
	Outcome   string  `json:"outcome"`
	Signal    string  `json:"signal,omitempty"` // the last one sent
	Error     string  `json:"error,omitempty"`  // errno of a refusal
	WaitMS    float64 `json:"wait_ms,omitempty"`
	RSSBytes  *uint64 `json:"rss_bytes,omitempty"`
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
}

// Alert states.
const (
	AlertOK       = "ok"
	AlertWarning  = "warning"
	AlertCritical = "critical"
)

// Alert is one transition, or repetition, of an alert.
type Alert struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Previous  string    `json:"previous,omitempty"`
	Value     *float64  `json:"value,omitempty"`
	Threshold *float64  `json:"threshold,omitempty"`
	Unit      string    `json:"unit,omitempty"`
	Since     time.Time `json:"since"`
	Message   string    `json:"message"`
}

// Tree is the document of `tree --json`.
type Tree struct {
	Schema int       `json:"schema"`
	Host   string    `json:"host"`
	Time   time.Time `json:"time"`
	// Complete says that every lineage in it was observed since the processes began.
	Complete  bool      `json:"complete"`
	Processes []Process `json:"processes"`
}

// Explain is the document of `explain --json`.
type Explain struct {
	Process  Process       `json:"process"`
	Evidence []string      `json:"evidence"`
	Holds    *Holds        `json:"holds,omitempty"` // of a living process
	Rules    []ExplainRule `json:"rules"`
	EndedBy  *Kill         `json:"ended_by,omitempty"` // of a dead process, the kill that reached it
}

// ExplainRule says whether one rule applies to the process, and why.
type ExplainRule struct {
	Name    string     `json:"name"`
	Applies bool       `json:"applies"`
	Why     string     `json:"why"`
	ActsAt  *time.Time `json:"acts_at,omitempty"`
}

// Monitor is the document of `monitor --json`.
type Monitor struct {
	Schema     int       `json:"schema"`
	Time       time.Time `json:"time"`
	Status     string    `json:"status"`
	Checks     []Check   `json:"checks"`
	Orphans    []Process `json:"orphans"`
	HighMemory []Process `json:"high_memory"`
}

// Check is one figure of the host against its thresholds. Status is "ok",
// "warning", "critical" or "unknown".
type Check struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	Value    *float64 `json:"value,omitempty"`
	Warning  *float64 `json:"warning,omitempty"`
	Critical *float64 `json:"critical,omitempty"`
	Unit     string   `json:"unit,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// Doctor is the document of `doctor --json`.
type Doctor struct {
	Checks []DoctorCheck `json:"checks"`
}

// DoctorCheck is one line of `doctor`. Status is "ok", "degraded" or "missing".
type DoctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
}
