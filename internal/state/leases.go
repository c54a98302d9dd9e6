// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
)

// leasesName is a file beside the state, for what must not wait for the next save; and
// leasesLayout the version of what is in it.
const (
	leasesName   = "leases"
	leasesLayout = "leases 1"
)

// SaveLeases replaces the file of the leases. It outlives this process, and not the machine:
// the disk is not waited for. Safe for concurrent use with Save, not with itself.
func (d *Dir) SaveLeases(leases []byte) error {
	b, err := encode(d.boot, leasesLayout, Sections{leasesName: leases})
	if err != nil {
		return err
	}
	if err := d.dir.ReplaceUnsynced(leasesName, b, 0o600); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	return nil
}

// LoadLeases returns what SaveLeases wrote within this boot, nil where there is nothing. Of
// a file that it cannot have written, the error is ErrCorrupt, ErrForeign or ErrTooLarge.
func (d *Dir) LoadLeases() ([]byte, error) {
	b, err := d.read(leasesName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	s, err := decode(b, d.boot, leasesLayout)
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	return s[leasesName], nil
}
