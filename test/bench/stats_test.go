// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestStats(t *testing.T) {
	tests := []struct {
		name        string
		values      []float64
		median, p99 float64
	}{
		{"none", nil, 0, 0},
		{"one", []float64{7}, 7, 7},
		{"even", []float64{4, 1, 3, 2}, 2.5, 4},
		{"odd, not sorted", []float64{9, 1, 5}, 5, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.values); got != tt.median {
				t.Errorf("median = %v, want %v", got, tt.median)
			}
			if got := quantile(tt.values, 0.99); got != tt.p99 {
				t.Errorf("p99 = %v, want %v", got, tt.p99)
			}
		})
	}
}

func TestIntervalHoldsTheMedian(t *testing.T) {
	values := []float64{1.00, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 5}
	low, high := interval(values)
	if m := median(values); low > m || high < m || low < 1 || high > 1.08 {
		t.Errorf("interval %v to %v around %v", low, high, m)
	}
	if again, _ := interval(values); again != low {
		t.Errorf("not the same twice: %v, %v", low, again)
	}
}
