package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"ftpgate/internal/lab"
)

// contestant is one way from the client to the server.
type contestant struct {
	name   string
	direct bool     // the client dials the server itself
	rules  string   // nft text for the gateway
	args   []string // ftpgate forward's, for a contestant with a process
	proxy  bool     // that process holds the sessions
}

// contestants are all that can be measured, in the order of the table.
var contestants = []contestant{
	{name: "routed", direct: true},
	{name: "helper", rules: recipe},
	{name: "proxy", args: []string{"--tracking", "proxy"}, proxy: true},
	{name: "relay", args: []string{"--tracking", "proxy", "--data", "relay"}, proxy: true},
	{name: "kernel", args: []string{"--tracking", "kernel"}},
}

// recipe is what administrators type by hand. The helper is attached behind the connection tracking
// (-200) and before the translation (-100), where it takes effect.
const recipe = `
table ip recipe {
	ct helper ftp {
		type "ftp" protocol tcp
	}
	chain helper {
		type filter hook prerouting priority -150
		ip daddr 192.168.5.2 tcp dport 2121 ct helper set "ftp"
	}
	chain prerouting {
		type nat hook prerouting priority -100
		ip daddr 192.168.5.2 tcp dport 2121 dnat to 203.0.113.21:21
	}
	chain postrouting {
		type nat hook postrouting priority 100
		oifname "wan0" masquerade
	}
}
`

var (
	gatewayAt = netip.AddrPortFrom(lab.GatewayLAN4, 2121)
	originAt  = netip.AddrPortFrom(lab.ServerAddr4, 21)
)

// find returns the contestants of these names; an unknown one is an error that names all.
func find(names []string) ([]contestant, error) {
	var found []contestant
	for _, name := range names {
		i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
		if i < 0 {
			var known []string
			for _, c := range contestants {
				known = append(known, c.name)
			}
			return nil, fmt.Errorf("no contestant %q: there are %s", name, strings.Join(known, ", "))
		}
		found = append(found, contestants[i])
	}
	return found, nil
}

// dial is where the load goes.
func (c contestant) dial() netip.AddrPort {
	if c.direct {
		return originAt
	}
	return gatewayAt
}

// settle makes the gateway of the stage what the contestant stands for.
func (c contestant) settle(ctx context.Context, s *stage, ftpgate string, extra []string) error {
	switch {
	case c.direct:
		// The one thing that the lab has not: the server knows the way back.
		if _, err := s.lab.Server().Output(ctx, "ip", "route", "add", lab.LANPrefix4.String(), "via", lab.GatewayWAN4.String()); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		if _, err := s.lab.Client().Output(ctx, "ip", "route", "add", lab.WANPrefix4.String(), "via", lab.GatewayLAN4.String()); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		return s.lab.Gateway().WriteSysctl("net.ipv4.ip_forward", "1")
	case c.rules != "":
		if err := loadRules(s.lab.Gateway(), c.rules); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		return s.lab.Gateway().WriteSysctl("net.ipv4.ip_forward", "1")
	}
	args := slices.Concat([]string{"forward"}, c.args, extra, []string{gatewayAt.String(), originAt.String()})
	cmd := program(ftpgate, args...)
	p, err := launch(s.lab.Gateway(), "ftpgate "+strings.Join(args, " "), cmd, func() error { return cmd.Process.Signal(syscall.SIGINT) })
	if err != nil {
		return err
	}
	s.gateway = p
	return p.ready(ctx)
}

// loadRules is `nft -f -`.
func loadRules(h *lab.Host, rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := h.Run(cmd); err != nil {
		return fmt.Errorf("%w: %s", err, stderr.String())
	}
	return nil
}
