package report

import "slices"

// Column gives one figure of all samples in ascending order.
func Column[T any](samples []T, figure func(T) float64) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, figure(s))
	}
	slices.Sort(out)
	return out
}

// Median gives the middle of figures in ascending order; there is to be one at least.
func Median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile gives the figure that p of a hundred do not exceed, of figures in ascending order.
func Percentile(sorted []float64, p int) float64 { return sorted[len(sorted)*p/100] }
