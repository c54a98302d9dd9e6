// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/event"
)

// isListed reports whether users, names or numeric ids, has the user with that id.
func isListed(users []string, uid uint32, name string) bool {
	return slices.ContainsFunc(users, func(user string) bool {
		id, err := strconv.ParseUint(user, 10, 32)
		return user != "" && user == name || err == nil && uint32(id) == uid
	})
}

// belongsTo reports whether p is one user's with all its ids, and that user is listed.
func (p *Process) belongsTo(users []string) bool {
	return len(users) > 0 && p.KnowsUIDs() && p.UIDs.Is(p.UIDs.Real) && isListed(users, p.UIDs.Real, p.nameOf(p.UIDs.Real))
}

// isAnyOf reports whether one of p's ids is that of a user who is listed.
func (p *Process) isAnyOf(users []string) bool {
	for _, uid := range [...]uint32{p.UIDs.Real, p.UIDs.Effective, p.UIDs.Saved} {
		if isListed(users, uid, p.nameOf(uid)) {
			return true
		}
	}
	return false
}

func (p *Process) nameOf(uid uint32) string {
	switch {
	case p.UserOf != nil:
		return p.UserOf(uid)
	case uid == p.UID:
		return p.User
	default:
		return ""
	}
}

// describeUser says in one phrase whose p is.
func (p *Process) describeUser() string {
	name := func(uid uint32) string {
		if name := p.nameOf(uid); name != "" {
			return name
		}
		return fmt.Sprint(uid)
	}
	switch {
	case !p.KnowsUIDs():
		return "not known"
	case p.UIDs.Is(p.UIDs.Real):
		return name(p.UIDs.Real)
	default:
		return fmt.Sprintf("%s (effective %s, saved %s)", name(p.UIDs.Real), name(p.UIDs.Effective), name(p.UIDs.Saved))
	}
}

type userIs []string

func (u userIs) holds(c *candidate) (bool, uint64) { return c.p.belongsTo(u), 0 }

func (u userIs) describe(c *candidate) string {
	if c.p.belongsTo(u) {
		return "its user is " + c.p.describeUser()
	}
	return fmt.Sprintf("its user is %s, not %s", c.p.describeUser(), strings.Join(u, " or "))
}

// outOfReach says why p must not be ended by r because of a leaker with these user ids, or
// nothing: whoever makes a leaker die must not end by that whom the leaker could not have
// signalled, unless r names that one's user. Where the end of the leaker was not seen, the ids of the
// tree's root stand in: the rule that ends it names that one by other things.
func outOfReach(r *rule, p *Process, leaker *event.UIDs) string {
	switch {
	case leaker != nil && leaker.CouldSignal(nobody) || p.belongsTo(r.Match.Texts("user")):
		return ""
	case leaker == nil:
		return "who could have signalled it is not known"
	case !p.KnowsUIDs():
		return "its user is not known"
	case !leaker.CouldSignal(p.UIDs):
		return fmt.Sprintf("its user is %s: the leaker could not have signalled it", p.describeUser())
	}
	return ""
}

// anyones are the ids of a leaker that could have signalled anyone: root's.
var anyones = &event.UIDs{}

// nobody has ids that only root can signal.
var nobody = event.UIDs{Real: 1<<32 - 1, Effective: 1<<32 - 1, Saved: 1<<32 - 1}
