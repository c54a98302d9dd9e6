// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Field is one thing that a rule can match on. All there is to it stands in its entry in
// [Fields]: the configuration reads it, the engine evaluates it, explain and the manual page
// tell of it from there.
type Field struct {
	// Path is where it stands in a rule of the configuration: "match.user", or
	// "orphaned_for" beside match. Its last part is its name.
	Path string
	// Form is how its value is written.
	Form Form
	// Words are the only values of a text, where there are few.
	Words []string
	// Example is a value, where not any text is one.
	Example string
	// Narrows says that it picks out processes by what they are, which is what a one-shot
	// pass wants before it kills on lineage that nobody observed.
	Narrows bool
	// BeyondTree says that it looks at more than the process and its descendants: to end one
	// tree may change it for another.
	BeyondTree bool
	// Needs is what a view must find out for it.
	Needs Needs
	// Manual is its text in the manual page abot-trace.yaml(5).
	Manual string

	// condition returns the condition for a value that has Form's type and is not zero.
	// Its error says what is wrong with the value.
	condition func(value any) (condition, error)
}

// Name is the field's name within its map of the configuration.
func (f *Field) Name() string { return f.Path[strings.LastIndexByte(f.Path, '.')+1:] }

// A Form is how a field's value is written, and which type it has in a [Match].
type Form uint8

// The forms.
const (
	FormTexts    Form = iota + 1 // one text or a list: []string
	FormText                     // one text: string
	FormDuration                 // 90s, 7d: time.Duration
	FormSize                     // 500MB, 1.5GiB: uint64, in bytes
	FormCount                    // 16: int
	FormFlag                     // true: bool
)

// holds reports whether the value has the form's type.
func (f Form) holds(value any) (ok bool) {
	switch f {
	case FormTexts:
		_, ok = value.([]string)
	case FormText:
		_, ok = value.(string)
	case FormDuration:
		_, ok = value.(time.Duration)
	case FormSize:
		_, ok = value.(uint64)
	case FormCount:
		_, ok = value.(int)
	case FormFlag:
		_, ok = value.(bool)
	}
	return ok
}

// Needs says what a view must find out about processes for a rule to be evaluated.
type Needs uint8

// The needs, to be joined.
const (
	NeedsUnits      Needs = 1 << iota // units and control groups
	NeedsContainers                   // containers with their names
	NeedsHeld                         // what processes hold, which has to be read of each
)

// Match is what a rule matches on, by the names of fields. A field that is left out, and
// one whose value is zero, matches any process.
type Match map[string]any

// Texts is the value of a field of FormTexts, nil where it is left out.
func (m Match) Texts(name string) []string {
	texts, _ := m[name].([]string)
	return texts
}

// StdioAbandoned is the one value of the field stdio.
const StdioAbandoned = wire.StdioAbandoned

// Fields are what a rule can match on beside its verdict, in the order in which they are
// looked at: the cheap and the selective ones first. An age costs less than a pattern, but
// it comes after: an orphan that no pattern matches must not arm a timer.
var Fields = []Field{
	{
		Path: "match.user", Form: FormTexts, Narrows: true,
		Manual:    "User names or ids. The process must be that user's now, with its real, effective and saved id. One or a list.",
		condition: func(v any) (condition, error) { return userIs(v.([]string)), nil },
	},
	{
		Path: "match.unit", Form: FormTexts, Narrows: true, Needs: NeedsUnits,
		Manual:    "Globs on the unit. One or a list.",
		condition: globs("unit", func(p *Process) string { return p.Unit }),
	},
	{
		Path: "match.container", Form: FormTexts, Narrows: true, Needs: NeedsContainers,
		Manual:    "Globs on the name or the id of the container, in which \\* matches a slash too. One or a list.",
		condition: wideGlobs("container", func(p *Process) []string { return []string{p.ContainerName, p.ContainerID} }),
	},
	{
		Path: "match.pod", Form: FormTexts, Narrows: true, Needs: NeedsContainers,
		Manual:    "Globs on the Kubernetes pod as *namespace/name*, in which \\* matches a slash too. One or a list.",
		condition: wideGlobs("pod", func(p *Process) []string { return []string{p.Pod} }),
	},
	{
		Path: "match.image", Form: FormTexts, Narrows: true, Needs: NeedsContainers,
		Manual:    "Globs on the image of the container, as it was asked for, in which \\* matches a slash too. One or a list.",
		condition: wideGlobs("image", func(p *Process) []string { return []string{p.Image} }),
	},
	{
		Path: "match.exe", Form: FormTexts, Narrows: true,
		Manual: "Globs on the whole path of the program, in which \\* does not match a slash. One or a list.",
		condition: globs("exe", func(p *Process) string {
			p.complete()
			return p.Exe
		}),
	},
	{
		Path: "match.cmdline", Form: FormText, Narrows: true,
		Manual: "A regular expression (RE2) on the command line.",
		condition: func(v any) (condition, error) {
			re, err := compileRE2(v.(string))
			return &cmdlineMatches{re}, err
		},
	},
	{
		Path: "match.spawned_by", Form: FormText,
		Manual: "A regular expression (RE2) on the command line of any ancestor, dead ones too.",
		condition: func(v any) (condition, error) {
			re, err := compileRE2(v.(string))
			return &spawnedByMatches{re}, err
		},
	},
	{
		Path: "match.leaker", Form: FormText, Narrows: true,
		Manual: "A regular expression (RE2) on the command line of the leaker, whose death made the orphan.",
		condition: func(v any) (condition, error) {
			re, err := compileRE2(v.(string))
			return &leakerMatches{re}, err
		},
	},
	{
		Path: "match.stdio", Form: FormText, Words: []string{StdioAbandoned},
		Manual: "*abandoned*: nobody is at the other end of its standard input, output or error.",
		condition: func(v any) (condition, error) {
			if v != StdioAbandoned {
				return nil, fmt.Errorf("%q is not %s", v, StdioAbandoned)
			}
			return stdioAbandoned{}, nil
		},
	},
	{
		Path: "orphaned_for", Form: FormDuration,
		Manual:    "Least age as an orphan.",
		condition: func(v any) (condition, error) { return orphanedFor(v.(time.Duration)), nil },
	},
	{
		Path: "older_than", Form: FormDuration,
		Manual:    "Least age as a process.",
		condition: func(v any) (condition, error) { return olderThan(v.(time.Duration)), nil },
	},
	{
		Path: "memory_above", Form: FormSize,
		Manual:    "Resident memory plus swap of the process with its descendants.",
		condition: func(v any) (condition, error) { return memoryAbove(v.(uint64)), nil },
	},
	{
		Path: "leak_memory_above", Form: FormSize, BeyondTree: true,
		Manual:    "Resident memory plus swap of the whole leak that it belongs to.",
		condition: func(v any) (condition, error) { return leakMemoryAbove(v.(uint64)), nil },
	},
	{
		Path: "leak_processes_above", Form: FormCount, BeyondTree: true,
		Manual: "Number of living processes of the whole leak that it belongs to.",
		condition: func(v any) (condition, error) {
			if v.(int) < 0 {
				return nil, fmt.Errorf("%d is below 0", v)
			}
			return leakProcessesAbove(v.(int)), nil
		},
	},
	{
		Path: "when", Form: FormText, BeyondTree: true, Needs: NeedsUnits,
		Manual: "An expression over *host* and *process*, see EXPRESSIONS.",
		condition: func(v any) (condition, error) {
			when, err := compileWhen(v.(string))
			return when, err
		},
	},
	{
		Path: "match.listens", Form: FormTexts, Example: "8000-8099", Needs: NeedsHeld,
		Manual: "Ports and ranges of them, as *5173* and *8000-8099*: the process listens on one. It is read where all else holds, is at " +
			"most 30s old at a decision, and is read again before the first signal; what cannot be read does not hold. One or a list.",
		condition: func(v any) (condition, error) {
			ports, err := parsePorts(v.([]string))
			return ports, err
		},
	},
	{
		Path: "match.holds_gpu", Form: FormFlag, Needs: NeedsHeld,
		Manual:    "*true*: the process has a GPU or compute device open. Read as **match.listens** is.",
		condition: func(any) (condition, error) { return holdsGPU{}, nil },
	},
}

// globs makes the condition of a field that is matched by shell patterns.
func globs(name string, of func(*Process) string) func(any) (condition, error) {
	return func(v any) (condition, error) {
		patterns, err := parseGlobs(v.([]string))
		return &globCondition{name, patterns, of}, err
	}
}

// compileConditions fills r.conditions, the verdict first.
func (r *rule) compileConditions() error {
	verdict := verdictIs{r.Verdict, r.Action == ActionKill}
	r.conditions, r.ofTree = append(r.conditions, verdict), append(r.ofTree, verdict)
	for i := range Fields {
		f := &Fields[i]
		value, given := r.Match[f.Name()]
		if !given || isZero(value) {
			continue
		}
		if !f.Form.holds(value) {
			return &FieldError{Rule: r.Name, Field: f.Name(), Err: fmt.Errorf("a value of type %T", value)}
		}
		c, err := f.condition(value)
		if err != nil {
			fault := &FieldError{Rule: r.Name, Field: f.Name(), Err: err}
			fault.Line, fault.Column = whenPosition(err)
			return fault
		}
		r.conditions = append(r.conditions, c)
		if !f.BeyondTree {
			r.ofTree = append(r.ofTree, c)
		}
		r.narrowed = r.narrowed || f.Narrows
		r.needs |= f.Needs
	}
	for name := range r.Match {
		if !slices.ContainsFunc(Fields, func(f Field) bool { return f.Name() == name }) {
			return &FieldError{Rule: r.Name, Field: name, Err: fmt.Errorf("there is no such field")}
		}
	}
	return nil
}

func isZero(value any) bool {
	switch v := value.(type) {
	case []string:
		return len(v) == 0
	case string:
		return v == ""
	case time.Duration:
		return v <= 0
	case uint64:
		return v == 0
	case int:
		return v == 0
	case bool:
		return !v
	}
	return false
}
