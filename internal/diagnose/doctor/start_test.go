package doctor

import (
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// A start warns of what keeps packets away, and repeats nothing that others have said.
func TestAtStart(t *testing.T) {
	served := []forward.Resolved{testForward(forward.TrackingProxy)}
	f := sound()
	f.Host = []finding.Finding{{Text: "listen is taken"}}
	if got := AtStart(f, served); len(got) > 0 {
		t.Errorf("got %+v; want nothing", got)
	}
	for range 2 {
		rule(nftforeign.Rule{Action: nftforeign.ActionDNAT, Owner: "docker", Priority: -100, Ports: here})(&f,
			&served[0])
	}
	input(refusing("ip", "filter", "INPUT", "ufw"))(&f, &served[0])
	var got []string
	for _, w := range AtStart(f, served) {
		got = append(got, fmt.Sprint(w.Severity, " ", w.Code))
	}
	if want := "warning translated_elsewhere, warning input_refused"; strings.Join(got, ", ") != want {
		t.Errorf("got %q; want %s", got, want)
	}
}

// A thousand forwards without a route are no thousand lines.
func TestAtStartBounded(t *testing.T) {
	f := sound()
	forwards := make([]forward.Resolved, 1000)
	for i := range forwards {
		forwards[i] = testForward(forward.TrackingProxy)
		forwards[i].Name = fmt.Sprint("f", i)
	}
	f.Routes[forwards[0].Server4] = system.Route{Problem: "there is no route"}
	got := AtStart(f, forwards)
	if len(got) != mostAtStart+1 || !strings.HasPrefix(got[mostAtStart].Text, "980 more findings") {
		t.Errorf("got %d warnings, the last one %+v; want %d and the number of the others", len(got),
			got[len(got)-1], mostAtStart)
	}
}
