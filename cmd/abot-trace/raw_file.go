// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"syscall"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// A rawFile writes to a regular file without telling the scheduler of the system
// calls. A stream is written some hundred times a second, and for the first call after a
// pause the runtime wakes its monitor thread, which then takes more time than the call.
// Only a regular file never keeps its writer waiting for a reader.
type rawFile struct {
	raw  syscall.RawConn
	name string
}

// rawWriter returns w as a rawFile where it is a regular file, else w itself.
func rawWriter(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return w
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return w
	}
	return &rawFile{raw, f.Name()}
}

// Write implements io.Writer.
func (q *rawFile) Write(b []byte) (n int, err error) {
	var writeErr error
	if err := q.raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) && writeErr == nil {
			var m int
			m, writeErr = rawsys.Write(int(fd), b[n:])
			n += m
		}
		return true
	}); err != nil {
		return n, err
	}
	if writeErr != nil {
		return n, &os.PathError{Op: "write", Path: q.name, Err: writeErr}
	}
	return n, nil
}
