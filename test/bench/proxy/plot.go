package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/mooring-project/mooring/test/peers"
)

// panel is one diagram: a figure of every subject by the number of Services, both logarithmic.
type panel struct {
	title  string
	figure func(s peers.Subject, services int) float64
}

// The plot's measures in pixels.
const (
	panelWidth, panelHeight               = 430, 300
	leftMargin, rightMargin               = 60, 16
	topMargin, bottomMargin, legendHeight = 34, 40, 36
)

// colours are told apart by most who confuse some (Okabe and Ito).
var colours = map[peers.Subject]string{
	peers.Mooring: "#0072b2", peers.KubeProxyIPVS: "#d55e00", peers.KubeProxyNFTables: "#009e73",
}

// draw gives the plot as SVG.
func draw(h head, found findings) string {
	panels := []panel{
		{"first sync, s", found.firstSync},
		{"one change, ms (median)", func(s peers.Subject, services int) float64 { return found.change(s, services, 50) }},
		{"CPU of one change, ms", found.changeCPU},
		{"resident memory, MiB", found.steady},
	}
	var b strings.Builder
	width, height := 2*panelWidth, legendHeight+2*panelHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	x := leftMargin
	for _, s := range h.order.Subjects {
		fmt.Fprintf(&b, `<circle cx="%d" cy="18" r="5" fill="%s"/><text x="%d" y="22">%s</text>`+"\n", x, colours[s], x+10, s)
		x += 190
	}
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%2*panelWidth, legendHeight+i/2*panelHeight)
		p.draw(&b, h)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// scale leads figures to pixels by their logarithms.
type scale struct{ low, high, from, to float64 }

func (s scale) at(x float64) float64 {
	return s.from + (math.Log10(x)-s.low)/(s.high-s.low)*(s.to-s.from)
}

func (p panel) draw(b *strings.Builder, h head) {
	across := scale{math.Log10(float64(h.order.Sizes[0])) - 0.15, math.Log10(float64(h.order.Sizes[len(h.order.Sizes)-1])) + 0.15, leftMargin, panelWidth - rightMargin}
	up := scale{math.Inf(1), math.Inf(-1), panelHeight - bottomMargin, topMargin}
	for _, s := range h.order.Subjects {
		for _, n := range h.order.Sizes {
			if y := p.figure(s, n); y > 0 {
				up.low, up.high = min(up.low, math.Floor(math.Log10(y))), max(up.high, math.Ceil(math.Log10(y)))
			}
		}
	}
	fmt.Fprintf(b, `<text x="%d" y="20" font-weight="bold">%s</text>`+"\n", leftMargin, p.title)
	if up.low > up.high {
		return // nothing was measured
	}
	up.high = max(up.high, up.low+1)
	for e := up.low; e <= up.high; e++ {
		y := up.at(math.Pow(10, e))
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			leftMargin, panelWidth-rightMargin, y, y, leftMargin-6, y+4, tick(math.Pow(10, e)))
	}
	for _, n := range h.order.Sizes {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", across.at(float64(n)), panelHeight-bottomMargin+18, n)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">Services</text>`+"\n", (leftMargin+panelWidth-rightMargin)/2, panelHeight-6)
	for _, s := range h.order.Subjects {
		p.line(b, h, s, across, up)
	}
}

// line draws one subject; where it has no figure, the line ends.
func (p panel) line(b *strings.Builder, h head, s peers.Subject, across, up scale) {
	var points []string
	for _, n := range h.order.Sizes {
		if y := p.figure(s, n); y > 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", across.at(float64(n)), up.at(y)))
		}
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[s])
	for _, point := range points {
		x, y, _ := strings.Cut(point, ",")
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="3.5" fill="%s"/>`+"\n", x, y, colours[s])
	}
}

// tick labels a power of ten.
func tick(x float64) string {
	if x < 1 {
		return fmt.Sprintf("%g", x)
	}
	return fmt.Sprintf("%.0f", x)
}
