// SPDX-License-Identifier: Apache-2.0

package history

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// An Archive is a history that is only read: the directory of a store, which may be written
// meanwhile, or an export. It belongs to one goroutine. Close it.
type Archive struct {
	// Skipped says which segments could not be used, and why.
	Skipped []error

	segments map[Class][]segment
	open     func(name string) (reader, error)
	close    func() error
}

// OpenArchive opens a directory or an export.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a := &Archive{segments: make(map[Class][]segment), close: f.Close}
	if info.IsDir() {
		err = a.openDir(f, path)
	} else {
		err = a.openExport(f)
	}
	for _, list := range a.segments { // the oldest first
		slices.SortFunc(list, func(x, y segment) int { return strings.Compare(x.name, y.name) })
	}
	if err == nil && len(a.segments) == 0 {
		err = errors.Join(append([]error{errors.New("it holds no history")}, a.Skipped...)...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("history %s: %w", path, err), f.Close())
	}
	return a, nil
}

func (a *Archive) openDir(dir *os.File, path string) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	a.close = func() error { return errors.Join(dir.Close(), root.Close()) }
	a.open = func(name string) (reader, error) { return root.Open(name) }
	for _, name := range names {
		f, err := root.Open(name)
		if err != nil {
			a.skip(name, err)
			continue
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			_ = f.Close()
			continue
		} else {
			a.add(name, f, info.Size())
		}
		_ = f.Close()
	}
	return nil
}

// openExport finds the segments in an export, which is a tar archive of them.
func (a *Archive) openExport(f *os.File) error {
	parts := make(map[string]*io.SectionReader)
	a.open = func(name string) (reader, error) {
		if part := parts[name]; part != nil {
			return opened{part}, nil
		}
		return nil, fs.ErrNotExist
	}
	list := tar.NewReader(f)
	for {
		head, err := list.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if len(parts) > 0 { // what was copied of it
				a.skip("the rest", err)
				return nil
			}
			return fmt.Errorf("neither a directory nor an export: %w", err)
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if _, _, ok := parseSegmentName(head.Name); ok {
			parts[head.Name] = io.NewSectionReader(f, at, head.Size)
			a.add(head.Name, parts[head.Name], head.Size)
		}
	}
}

// opened is a part of a file that stays open.
type opened struct{ *io.SectionReader }

func (opened) Close() error { return nil }

// add takes a segment, if it is one.
func (a *Archive) add(name string, r io.ReaderAt, size int64) {
	class, _, ok := parseSegmentName(name)
	if !ok {
		return
	}
	seg, err := readSegment(name, r, size)
	if err == nil && seg.head.Class != class {
		err = fmt.Errorf("its name says %s, its head %s", class, seg.head.Class)
	}
	if err != nil {
		a.skip(name, err)
		return
	}
	a.segments[class] = append(a.segments[class], *seg)
}

func (a *Archive) skip(name string, err error) {
	if strings.HasSuffix(name, asideMark) || strings.HasSuffix(name, sealingMark) {
		return
	}
	a.Skipped = append(a.Skipped, fmt.Errorf("%s: %w", name, err))
}

// View returns what is in it of a class.
func (a *Archive) View(class Class) *View {
	return &View{segments: slices.Clone(a.segments[class]), open: a.open}
}

// Close gives back what is open. No view of it can be read any more.
func (a *Archive) Close() error { return a.close() }
