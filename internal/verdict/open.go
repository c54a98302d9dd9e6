// SPDX-License-Identifier: Apache-2.0

package verdict

// A variant changes one fact.
type variant struct {
	change func(*Facts)
	says   string // what it would say, as a sentence about the unknown
}

// mayChange reports whether a fact that is pending could change the word.
func (f *Facts) mayChange(word string) bool {
	try := func(change func(*Facts)) bool {
		g := *f
		g.Errors = nil
		change(&g)
		other, _ := decide(&g)
		return other != word
	}
	p := &f.Pending
	switch {
	case p.Signs && (try(giveSign) || try(giveSession)):
	case p.Ends && (try(abandon) || try(holdEnds)):
	case p.Unit && (try(own) || try(disown)):
	case p.Marks && (try(keep) || try(knowMarks)):
	case p.Listens && (try(listen) || try(doNotListen)):
	case p.Client && try(connect):
	case f.Above != nil && f.Above.Provisional && (try(spareAbove) || try(leakAbove)):
	default:
		return false
	}
	return true
}

func giveSign(f *Facts) {
	f.Now.HupIgnored, f.Exec.HupIgnored, f.Launch.HupIgnored = true, false, false
}
func giveSession(f *Facts) {
	f.Now.SessionOwn, f.Exec.SessionOwn, f.Launch.SessionOwn = true, false, false
}
func own(f *Facts)         { f.Unit.Main, f.Pending.Unit = true, false }
func disown(f *Facts)      { f.Pending.Unit = false }
func keep(f *Facts)        { f.MarksKnown, f.Keep = true, true }
func knowMarks(f *Facts)   { f.MarksKnown = true }
func listen(f *Facts)      { f.Succession.Listens = Yes }
func doNotListen(f *Facts) { f.Succession.Listens = No }
func connect(f *Facts)     { f.Client = Yes }

func holdEnds(f *Facts) { f.answerEnds(EndUnknown, EndHeld) }
func abandon(f *Facts) {
	f.answerEnds(EndUnknown, EndAbandoned)
	f.answerEnds(EndHeld, EndAbandoned)
}

// answerEnds has each other end of which one thing is said be another.
func (f *Facts) answerEnds(from, to End) {
	f.Pending.Ends = false
	for i := range f.Ends {
		if f.Ends[i] == from {
			f.Ends[i] = to
		}
	}
}

func spareAbove(f *Facts) { f.setAbove(Deliberate) }
func leakAbove(f *Facts)  { f.setAbove(Leaked) }

func (f *Facts) setAbove(word string) {
	above := *f.Above
	above.Verdict, above.Provisional = word, false
	f.Above = &above
}

// missing names the single fact that would have settled an unknown verdict, the likeliest
// to be had first.
func (f *Facts) missing() string {
	if len(f.Errors) > 0 {
		return "what could not be read: " + f.Errors[0]
	}
	for _, v := range []variant{
		{knowMarks, "the marks in its environment"},
		{holdEnds, "who is at the other ends of its standard input, output and error"},
		{abandon, "nobody at the other end of its standard input, output or error"},
		{func(f *Facts) { f.Unit.Ended = true }, "its unit being down"},
		{giveSign, "a sign of its own that it is to outlive its spawner: a session, SIGHUP ignored, or standard input, output and error replaced"},
		{keep, "ABOT_TRACE_KEEP=1 in its environment"},
	} {
		g := *f
		v.change(&g)
		if word, _ := decide(&g); word != Unknown {
			return v.says
		}
	}
	return "how it came to be: it is older than the tracer"
}
