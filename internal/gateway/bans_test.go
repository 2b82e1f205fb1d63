package gateway_test

import (
	"errors"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
)

// The table refuses who is banned, also after other changes, until the ban is lifted.
func TestSetBans(t *testing.T) {
	b := newBench()
	bans := rulesettest.Bans("192.0.2.7")
	if err := b.SetBans(bans); err != nil || b.kernel.applies() != 0 {
		t.Errorf("got error %v, %d changes before anything is published; want none", err, b.kernel.applies())
	}
	for _, forwards := range [][]forward.Forward{{plain("main", ":2121", "203.0.113.21")},
		{plain("other", ":2122", "203.0.113.22")}} {
		resolved, _ := b.Resolve(t.Context(), forwards)
		if err := b.Publish(resolved); err != nil {
			t.Fatal(err)
		}
		want := ruleset.Build("ftpgate", resolved).Banning(bans, resolved).Text()
		if b.kernel.last() != want || !strings.Contains(want, "192.0.2.7") {
			t.Errorf("got\n%s\nwant\n%s", b.kernel.last(), want)
		}
	}
	broken := errors.New("nft: no room")
	b.kernel.fail(broken)
	if err := b.SetBans(nil); !errors.Is(err, broken) {
		t.Errorf("got error %v; want %v", err, broken)
	}
	b.kernel.fail(nil)
	if _, _, err := b.Repair(nil); err != nil {
		t.Fatal(err)
	}
	if got := b.kernel.repaired[0].Text(); !strings.Contains(got, "192.0.2.7") {
		t.Errorf("got the repaired table\n%s\nwant the bans from before the error", got)
	}
	if err := b.SetBans(nil); err != nil || strings.Contains(b.kernel.last(), "banned") {
		t.Errorf("got error %v,\n%s\nwant no bans", err, b.kernel.last())
	}
}
