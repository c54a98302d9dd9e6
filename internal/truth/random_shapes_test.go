// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	randomShapes = flag.Int("shapes", 10, "how many random shapes are played")
	shapesSeed   = flag.Uint64("shapes-seed", 0, "the seed of random shapes; 0 is another one each time")
)

// A plan makes a random shape, and says what it leaks by the rules alone: a death outside any
// leak opens one of all who lived below it, unless we ourselves have killed; what a member forks
// is one; a death inside opens none.
type plan struct {
	parent map[string]string
	alive  map[string]bool
	leakOf map[string]string          // the leaker, by member
	all    map[string]map[string]bool // members, by leaker
	ended  map[string]map[string]bool // how members ended, by leaker
	order  []string
	steps  []string
}

func newShape(random *rand.Rand) shape {
	p := &plan{parent: map[string]string{}, alive: map[string]bool{"m": true}, leakOf: map[string]string{},
		all: map[string]map[string]bool{}, ended: map[string]map[string]bool{}}
	names := strings.Split("abcdefghij", "")
	for len(p.alive) > 0 {
		who := slices.Sorted(maps.Keys(p.alive))
		name := who[random.IntN(len(who))]
		if len(names) > 0 && random.IntN(2) == 0 {
			p.fork(name, names[0])
			names = names[1:]
			continue
		}
		p.die(name, "-^!~#"[random.IntN(5)])
	}
	var want []string
	for _, leaker := range p.order {
		how := "mixed"
		if len(p.ended[leaker]) == 1 {
			how = slices.Collect(maps.Keys(p.ended[leaker]))[0]
		}
		want = append(want, fmt.Sprintf("%s=%s %s", leaker, strings.Join(slices.Sorted(maps.Keys(p.all[leaker])), ""), how))
	}
	return shape{strings.Join(p.steps, " "), strings.Join(want, ", ")}
}

func (p *plan) fork(parent, child string) {
	p.steps = append(p.steps, parent+"+"+child)
	p.parent[child], p.alive[child] = parent, true
	if leaker := p.leakOf[parent]; leaker != "" {
		p.join(child, leaker)
	}
}

func (p *plan) join(name, leaker string) {
	p.leakOf[name], p.all[leaker][name] = leaker, true
}

func (p *plan) die(name string, how byte) {
	p.steps = append(p.steps, string(how)+name)
	delete(p.alive, name)
	if leaker := p.leakOf[name]; leaker != "" {
		p.ended[leaker][map[byte]string{'-': "exit", '^': "exit", '!': "signal", '~': "signal", '#': "kill"}[how]] = true
		return
	}
	if how == '#' {
		return
	}
	below := []string{name}
	for i := 0; i < len(below); i++ {
		for _, child := range slices.Sorted(maps.Keys(p.alive)) {
			if p.parent[child] == below[i] {
				below = append(below, child)
			}
		}
	}
	if len(below) == 1 {
		return
	}
	p.order = append(p.order, name)
	p.all[name], p.ended[name] = map[string]bool{}, map[string]bool{}
	for _, child := range below[1:] {
		p.join(child, name)
	}
}

// TestRandomShapes plays shapes that nobody has thought of. make test-chaos plays many.
func TestRandomShapes(t *testing.T) {
	seed := *shapesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-shapes-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const together = 40
	for n := *randomShapes; n > 0; n -= together {
		shapes := make([]shape, min(n, together))
		for i := range shapes {
			shapes[i] = newShape(random)
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newLeakWorld(t)
			w.puppets(len(shapes))
			var players sync.WaitGroup
			for range shapes {
				main := <-w.mains
				players.Go(func() {
					t.Run("", func(t *testing.T) {
						t.Log(shapes[main[0]].steps)
						w.play(t, shapes[main[0]], main[1])
					})
				})
			}
			players.Wait()
		})
	}
}
