package system

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestEnableAccounting(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "net/netfilter")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"nf_conntrack_acct": "0\n", "nf_conntrack_events": "2\n"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	changed, err := enableAccounting(dir)
	if want := []string{"net.netfilter.nf_conntrack_acct=1"}; err != nil || !slices.Equal(changed, want) {
		t.Errorf("got %v, %v; want %v", changed, err, want)
	}
	if text, _ := os.ReadFile(filepath.Join(at, "nf_conntrack_acct")); string(text) != "1\n" {
		t.Errorf("got %q; want it on", text)
	}
	if err := os.Remove(filepath.Join(at, "nf_conntrack_events")); err != nil {
		t.Fatal(err)
	}
	if _, err := enableAccounting(dir); err == nil {
		t.Error("a kernel without the switch is no error")
	}
}
