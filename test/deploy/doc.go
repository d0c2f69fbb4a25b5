// Package deploy tests what deploy/ holds: that the chart and the overlays give the same objects,
// that a real API server accepts them, and that their roles are exactly what the programs use. It is
// a module of its own, so that what renders charts stays out of the programs' dependencies.
package deploy
