// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
)

// Text is a string that knows where it was written.
type Text struct {
	Value string
	At    Pos
}

// Int is a whole number that knows where it was written.
type Int struct {
	Value int
	At    Pos
}

// Bool is true or false and knows where it was written.
type Bool struct {
	Value bool
	At    Pos
}

// Duration is a time span, written with a unit: 250ms, 90s, 1h30m, 24h, 7d.
type Duration struct {
	Value time.Duration
	At    Pos
}

// Size is a number of bytes, written with a unit: 500MB is 500 million bytes,
// 512MiB is 512 times 2^20.
type Size struct {
	Bytes uint64
	At    Pos
}

// Percent is a share from 0 to 100, written with its sign: 85%.
type Percent struct {
	Value float64
	At    Pos
}

// String returns the text.
func (t Text) String() string { return t.Value }

// scalar is what a YAML scalar decodes into.
type scalar interface {
	parse(text string) error
	setPos(Pos)
}

func (t *Text) parse(text string) error {
	t.Value = text
	return nil
}

func (n *Int) parse(text string) error {
	v, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	n.Value = v
	return nil
}

func (b *Bool) parse(text string) error {
	switch text {
	case "true":
		b.Value = true
	case "false":
		b.Value = false
	default:
		return fmt.Errorf("%q: want true or false", text)
	}
	return nil
}

func (d *Duration) parse(text string) (err error) {
	d.Value, err = quantity.ParseDuration(text)
	return err
}

func (s *Size) parse(text string) (err error) {
	s.Bytes, err = quantity.ParseSize(text)
	return err
}

func (p *Percent) parse(text string) (err error) {
	p.Value, err = quantity.ParsePercent(text)
	return err
}

func (t *Text) setPos(p Pos)     { t.At = p }
func (n *Int) setPos(p Pos)      { n.At = p }
func (b *Bool) setPos(p Pos)     { b.At = p }
func (d *Duration) setPos(p Pos) { d.At = p }
func (s *Size) setPos(p Pos)     { s.At = p }
func (p *Percent) setPos(at Pos) { p.At = at }

// DurationOrOff is a Duration, or the word off: then its value is 0.
type DurationOrOff struct {
	Duration
	Off bool
}

func (d *DurationOrOff) parse(text string) error {
	if d.Off = text == "off"; d.Off {
		d.Value = 0
		return nil
	}
	return d.Duration.parse(text)
}

// SizeOrOff is a Size, or the word off: then it has no bytes.
type SizeOrOff struct {
	Size
	Off bool
}

func (s *SizeOrOff) parse(text string) error {
	if s.Off = text == "off"; s.Off {
		s.Bytes = 0
		return nil
	}
	return s.Size.parse(text)
}
