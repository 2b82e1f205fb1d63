package importer

import (
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// maxFaulty bounds the forwards that are checked one by one, because some do not fit the others.
const maxFaulty = 500

// admit keeps the candidates that can serve together, as package forward decides. Mostly all of them can.
func (a *analysis) admit() {
	all := make([]forward.Forward, len(a.found))
	for i, c := range a.found {
		all[i] = named(c.Forward.Forward)
	}
	sound := !slices.ContainsFunc(forward.Check(all), func(f []finding.Finding) bool { return len(f) > 0 })
	for i, c := range a.found {
		if !sound && i >= maxFaulty {
			a.left(c.path.Place, "a forward from %s to %s: there are faults, and more forwards than can be "+
				"checked one by one", c.Listen, c.Server)
			continue
		}
		if sound || a.fits(c) || a.fitsWithout(c) {
			a.result.Forwards = append(a.result.Forwards, c.Forward)
			a.delete(c.deletes...)
		}
	}
}

// fits reports whether the candidate is sound beside those that are.
func (a *analysis) fits(c *candidate) bool { return a.fault(c) == "" }

func (a *analysis) fault(c *candidate) string {
	all := make([]forward.Forward, 0, len(a.result.Forwards)+1)
	for _, f := range a.result.Forwards {
		all = append(all, named(f.Forward))
	}
	own := named(c.Forward.Forward)
	if c.Name == "" {
		own.Name += " (" + where(c.path.Place) +
			")" // the fault shall be that of the address, not of its name
	}
	for _, faults := range forward.Check(append(all, own)) {
		for _, f := range faults {
			return f.Text
		}
	}
	return ""
}

// named gives a forward the name that the file gives it.
func named(f forward.Forward) forward.Forward {
	if f.Name == "" {
		f.Name = f.Listen.String()
	}
	return f
}

// fitsWithout tries the candidate without what is no part of its essence; else it says why it is left out.
func (a *analysis) fitsWithout(c *candidate) bool {
	fault := a.fault(c)
	if c.Outbound != nil {
		a.left(c.path.Place, "an outbound on %s: %s", c.Listen.Interface, fault)
		return false
	}
	c.Name = ""
	if a.fits(c) {
		return true
	}
	if c.Tracking == forward.TrackingProxy && !c.ServerPorts.IsEmpty() {
		ports := c.ServerPorts
		c.dropServerPorts()
		if a.fits(c) {
			a.left(c.path.Place, "server_ports = %q, with which encrypted sessions (FTPS) would pass "+
				"through: %s",
				ports, fault)
			return true
		}
	}
	a.left(c.path.Place, "a forward from %s to %s: %s", c.Listen, c.Server, fault)
	return false
}
