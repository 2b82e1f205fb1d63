package nftwatch_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftwatch"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// What others change in the table is reported, once for each transaction, with the program's name. What this
// process changes, and what happens to other tables, is not.
func TestChanges(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	var w *nftwatch.Watcher
	if err := h.Do(func() (err error) { w, err = nftwatch.Subscribe("ftpgate"); return err }); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	changes := make(chan nftwatch.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx, func(c nftwatch.Change) { changes <- c }) }()
	table := ruleset.Build("ftpgate", rulesettest.Cases()[8].Forwards)
	nfttest.Apply(t, nfttest.Open(t, h), table)
	for _, command := range []string{
		"add table inet ftpgate-2; add table ip ftpgate; add table inet other",
		"flush map inet ftpgate control4; flush set inet ftpgate helper4",
		"flush chain inet ftpgate forward",
		"flush ruleset",
	} {
		nfttest.Run(t, h, command)
	}
	for _, want := range []nftwatch.Change{
		{Program: "nft", Emptied: []string{"control4", "helper4"}},
		{Program: "nft"},
		{Program: "nft"},
	} {
		select {
		case got := <-changes:
			if got.PID == 0 {
				t.Errorf("got %+v; want the program's number", got)
			}
			if got.PID = 0; !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v; want %+v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("got nothing; want %+v", want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got error %v; want none", err)
	}
	if len(changes) > 0 {
		t.Errorf("got %+v too", <-changes)
	}
}
