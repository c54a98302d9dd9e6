// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// trustName is a file beside the state, for what people have decided. It belongs to no boot,
// and to no version of the program: trustLayout is only that of the file.
const (
	trustName   = "trust"
	trustLayout = "trust 1"
	anyBoot     = "any"
)

// SaveTrust replaces the file of what was decided. When it returns, that is on the disk. Safe
// for concurrent use with Save, not with itself.
func (d *Dir) SaveTrust(decisions []byte) error {
	b, err := encode(anyBoot, trustLayout, Sections{trustName: decisions})
	if err != nil {
		return err
	}
	if err := d.dir.Replace(trustName, b, 0o600); err != nil {
		return fmt.Errorf("decisions: %w", err)
	}
	return nil
}

// LoadTrust returns what SaveTrust wrote, in this boot or before, nil where there is nothing.
// A file that it cannot have written is set aside, and the error is ErrCorrupt, ErrForeign or
// ErrTooLarge.
func (d *Dir) LoadTrust() ([]byte, error) {
	b, err := d.read(trustName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var s Sections
		if s, err = decode(b, anyBoot, trustLayout); err == nil {
			return s[trustName], nil
		}
		aside := trustName + asideMark + time.Now().UTC().Format(asideTime)
		err = errors.Join(err, d.dir.Rename(trustName, aside), d.bound(trustName+asideMark))
	}
	return nil, fmt.Errorf("decisions: %w", err)
}
