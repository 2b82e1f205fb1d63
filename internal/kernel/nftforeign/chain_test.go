package nftforeign_test

import (
	"slices"
	"testing"

	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/try/lab/labtest"
)

// Only chains that refuse packets by default are reported, with the program that owns them.
func TestRefusingForwardChains(t *testing.T) {
	labtest.Need(t, "nft")
	tests := []struct {
		name, rules string
		want        []nftforeign.Chain
	}{
		{"policy drop",
			"table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
			[]nftforeign.Chain{{"ip", "filter", "FORWARD", ""}}},
		{"docker",
			`table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0;
				policy drop; jump DOCKER-USER; }; }`,
			[]nftforeign.Chain{{"ip", "filter", "FORWARD", "docker"}}},
		{"ufw",
			`table ip filter { chain ufw-reject-forward { }; chain FORWARD {
				type filter hook forward priority 0; policy drop; }; }`,
			[]nftforeign.Chain{{"ip", "filter", "FORWARD", "ufw"}}},
		{"reject at the end",
			`table inet fw { chain f { type filter hook forward priority 10; ct state established accept;
				counter reject; }; }`,
			[]nftforeign.Chain{{"inet", "fw", "f", ""}}},
		{"firewalld accepts what is translated",
			`table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10;
				ct status dnat accept; reject; }; }`, nil},
		{"accepts before",
			"table inet fw { chain f { type filter hook forward priority 0; policy drop; accept; }; }", nil},
		{"conditional drop",
			"table inet fw { chain f { type filter hook forward priority 0; ip saddr 10.0.0.1 drop; }; }",
			nil},
		{"input is not forward",
			"table inet fw { chain i { type filter hook input priority 0; policy drop; }; }", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			nfttest.Run(t, h, tt.rules)
			var got []nftforeign.Chain
			err := h.Do(func() (err error) {
				got, err = nftforeign.RefusingForwardChains()
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}
