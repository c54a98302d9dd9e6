// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math"
	"reflect"
)

// Figures returns what is known of the host, by the names of expressions.
func (h *Host) Figures() map[string]float64 {
	figures := make(map[string]float64)
	v := reflect.ValueOf(h).Elem()
	for i := range v.NumField() {
		if f := v.Field(i).Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			figures[v.Type().Field(i).Tag.Get("expr")] = f
		}
	}
	return figures
}

// HostOf returns the host of which that is known.
func HostOf(figures map[string]float64) Host {
	h := UnknownHost()
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		if f, ok := figures[v.Type().Field(i).Tag.Get("expr")]; ok {
			v.Field(i).SetFloat(f)
		}
	}
	return h
}
