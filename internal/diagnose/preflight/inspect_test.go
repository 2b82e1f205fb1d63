package preflight

import (
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
)

// A daemon that has started warns of what doctor would find beside it.
func TestInspect(t *testing.T) {
	served := []forward.Resolved{either()}
	p := &Prober{host: fakeHost()}
	if got := p.Inspect(served); len(got) > 0 {
		t.Errorf("got %v; want nothing", got)
	}
	p.host.readDetails = func(f *facts.Facts, _ []forward.Resolved) {
		if !f.Running || f.PID == 0 {
			t.Errorf("got running %t, pid %d; want this process", f.Running, f.PID)
		}
		f.Inputs = []nftforeign.InputChain{{Chain: nftforeign.Chain{Family: "inet", Table: "fw", Name: "in"}}}
	}
	got := p.Inspect(served)
	if len(got) == 0 || got[0].IsFault() || !strings.Contains(got[0].Text,
		"chain in of table inet fw refuses") {
		t.Errorf("got %v; want the chain, as a warning", got)
	}
}
