// SPDX-License-Identifier: Apache-2.0

package wire

// Event types.
const (
	TypeFork   = "fork"
	TypeExec   = "exec"
	TypeExit   = "exit"
	TypeOrphan = "orphan"
	TypeOOM    = "oom"
	TypeSignal = "signal"
	TypeKill   = "kill"
	TypeAlert  = "alert"
	TypeLost   = "lost"
	TypeResync = "resync"
	// TypeVerdict tells that another verdict holds of an orphan, or that one is final.
	TypeVerdict = "verdict"
	TypeLeak    = "leak"
	// TypeCaught tells of a signal that asks a process to end and does not do it by itself.
	TypeCaught = "caught"
	// TypeTrust tells what was decided about leaks of one fingerprint, or about a rule.
	TypeTrust = "trust"
)

// An EventType declares one type of events. Which types there are, their order in JSON and in
// the documentation, what readers may ask for, and how records in the journal are told apart
// follow from [EventTypes]; tests fail where somebody who tells of events has nothing to say
// of a type.
type EventType struct {
	Name string
	// Lifecycle says that it comes as often as processes do: it is remembered in short, and
	// made only where somebody reads it. All others are notable.
	Lifecycle bool
	// Host says that it is about no process.
	Host bool
	// MessageID is the MESSAGE_ID of its records in the journal. It never changes, and has
	// an entry in deploy/systemd/abot-trace.catalog.
	MessageID string
	// When and Object are its row in docs/events.md: when it happens, and what its own
	// object holds.
	When, Object string

	// own appends its own object, where the event carries one; nil where there is none.
	own func(b []byte, e *Event) []byte
}

// EventTypes are the types of events. New ones are appended.
var EventTypes = []EventType{
	{
		Name: TypeFork, Lifecycle: true, MessageID: "bcc6d88ee490417b9140cd9e6319b704",
		When: "a process was made",
	},
	{
		Name: TypeExec, Lifecycle: true, MessageID: "01b19b684fc340c3bb3e1e1ac6878286",
		When: "it replaced its program",
	},
	{
		Name: TypeExit, Lifecycle: true, MessageID: "7b7906c740b140b29181dff0200c83ee",
		When: "its last thread died; `process.exit` says how",
	},
	{
		Name: TypeOrphan, MessageID: "5dbae7975ebf4c59b1c36f70eb58a767",
		When: "its spawner died, or an ancestor (`direct: false`); told once for each orphan, in `process.orphan`",
	},
	{
		Name: TypeOOM, MessageID: "46136196db7d4056987a0e8edf05796b",
		When:   "the OOM killer chose it",
		Object: "`rss_bytes` (absent where the kernel does not say), `cgroup`",
		own:    object("oom", func(e *Event) *OOM { return e.OOM }),
	},
	{
		Name: TypeSignal, Lifecycle: true, MessageID: "deaedc334f8540ee80b42dc737c747da",
		When:   "a signal that will end the process was delivered",
		Object: "`signal`: the signal's name; `sender`: `pid`, `start_ns`, `comm`, `cmdline`, `uid`, `ancestors` (those that spawned it, nearest first). Without `sender` it came from the kernel",
		own:    object("signal", func(e *Event) *Signal { return e.Signal }),
	},
	{
		Name: TypeKill, MessageID: "999705e826ad480abeea8427b85423e7",
		When:   "a rule ended the trees of a leak that were due, or would have, or a person ended something",
		Object: "see below",
		own:    object("kill", func(e *Event) *Kill { return e.Kill }),
	},
	{
		Name: TypeAlert, Host: true, MessageID: "5aea0c9af28b4e9090fcdf6949f5f669",
		When:   "an alert changed its state, or reminds",
		Object: "`name`, `state` (`ok` `warning` `critical`), `previous`, `value`, `threshold`, `unit`, `since`, `message`",
		own:    object("alert", func(e *Event) *Alert { return e.Alert }),
	},
	{
		Name: TypeLost, Host: true, MessageID: "b1cfe3b0d730454fac94bde60b770943",
		When:   "records found no room",
		Object: "`records`: how many; `since_ns`: since when; `where`: `history` where only the disk did not take them",
		own:    object("lost", func(e *Event) *Lost { return e.Lost }),
	},
	{
		Name: TypeResync, Host: true, MessageID: "d413561fa494476e85d2d656c2bcd9b2",
		When:   "the tree was compared with the kernel's list",
		Object: "`reason`; `found`: processes that it did not know; `vanished`: processes that had died unseen",
		own:    object("resync", func(e *Event) *Resync { return e.Resync }),
	},
	{
		Name: TypeVerdict, MessageID: "a005b57132aa4b5f88db3833887ab62a",
		When:   "another verdict holds of an orphan, one that was provisional is final, or another death counts for it; `process.orphan` has what holds now",
		Object: "`previous`: the verdict before; `reason`: what changed it",
		own:    object("verdict", func(e *Event) *VerdictChange { return e.Verdict }),
	},
	{
		Name: TypeCaught, Lifecycle: true, MessageID: "8e8b824ac95445e3b33392c34ca0833e",
		When:   "SIGTERM, SIGINT, SIGHUP, SIGQUIT or SIGABRT came from elsewhere and did not end the process by itself, or a fatal signal was blocked; 16 a second for each process are told",
		Object: "as `signal`, with `effect` (`caught` `blocked` `ignored`) and `suppressed`: how many were not told since the one before",
		own:    object("caught", func(e *Event) *Signal { return e.Caught }),
	},
	{
		Name: TypeLeak, MessageID: "4c0bd0a25c2f4ee2a5b8a4c25b8cfe0c", Host: true,
		When:   "a leak was opened, has changed, has passed a threshold, or has ended; it is about the leaker, which is dead, and what that left",
		Object: "see below",
		own:    object("leak", func(e *Event) *Leak { return e.Leak }),
	},
	{
		Name: TypeTrust, MessageID: "8f7c3a5d1e0b4c6b9a42d3f6e8107b55", Host: true,
		When:   "somebody acknowledged leaks of a fingerprint, had all rules ignore them, or forgot that; somebody armed or disarmed a rule; or a rule suspended itself because its victims came back",
		Object: "`action` (`ack` `ignore` `forget` `suspend` `arm` `disarm`), `fingerprint`, `name`, `rule`, `reason`, `by` (`uid`, `user`, `pid`; absent where the daemon did it), `since`, `until`",
		own:    object("trust", func(e *Event) *Trust { return e.Trust }),
	},
}

// object appends an own object under its type's name.
func object[T any](name string, of func(*Event) *T) func([]byte, *Event) []byte {
	key := `,"` + name + `":`
	return func(b []byte, e *Event) []byte { return appendRare(b, key, of(e)) }
}

// Types lists the names of the event types.
var Types = func() (names []string) {
	for i := range EventTypes {
		names = append(names, EventTypes[i].Name)
	}
	return names
}()

// ownObjects append the own objects that an event can carry.
var ownObjects = func() (all []func([]byte, *Event) []byte) {
	for i := range EventTypes {
		if own := EventTypes[i].own; own != nil {
			all = append(all, own)
		}
	}
	return all
}()
