// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var update = flag.Bool("update", false, "write down what archives of older formats say, and an archive of this one if there is none")

// thisFormat is the archive of what is written today. Where the format changes, so does the
// name, and the old archives stay: later versions read them.
const thisFormat = "testdata/format-1.tar"

// TestFormats reads what each format has written, and wants of it what it said then.
func TestFormats(t *testing.T) {
	if *update {
		writeFormat(t)
	}
	files, err := filepath.Glob("testdata/format-*.tar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: no archives", err)
	}
	for _, file := range files {
		golden := strings.TrimSuffix(file, ".tar") + ".json"
		got := readFormat(t, file)
		if *update {
			b, err := json.Marshal(got)
			if err == nil {
				err = os.WriteFile(golden, append(b, '\n'), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		var want contents
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got.Events) < 50 || len(got.Tree.Processes) < 5 || len(got.Orphans) == 0 {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// contents are what an archive says.
type contents struct {
	Events  []*wire.Event
	Tree    *wire.Tree
	Orphans []wire.Process
}

func readFormat(t *testing.T, file string) (c contents) {
	t.Helper()
	a, err := history.OpenArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	missed, err := Events(t.Context(), a, Query{Samples: true}, func(e *wire.Event) error { c.Events = append(c.Events, e); return nil })
	if err != nil || missed != 0 || len(a.Skipped) != 0 {
		t.Fatalf("%s: %v, %d missed, %v", file, err, missed, a.Skipped)
	}
	_, _, _, end := a.View(history.Stream).Span()
	m, err := At(a, end)
	if err != nil {
		t.Fatal(err)
	}
	if c.Tree, err = m.Tree(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Orphans, err = m.Orphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func writeFormat(t *testing.T) {
	if _, err := os.Stat(thisFormat); !errors.Is(err, fs.ErrNotExist) {
		return // it was written once, and stays
	}
	w := newWorld(t)
	for i := range 120 {
		w.step()
		if i%40 == 20 {
			w.sample()
		}
		if i == 60 {
			w.checkpoint()
		}
	}
	w.settle()
	var b bytes.Buffer
	if _, err := Export(t.Context(), w.store, time.Time{}, time.Time{}, &b); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(thisFormat, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}
