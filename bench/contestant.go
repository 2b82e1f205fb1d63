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

	client   bool // the client speaks TLS
	server   bool // the server does
	modProxy bool // the process is proftpd
	beside   bool // is measured beside those that speak TLS
}

// contestants are all that can be measured, in the order of the table.
var contestants = []contestant{
	{name: "routed", direct: true, beside: true},
	{name: "helper", rules: recipe},
	{name: "proxy", args: []string{"--tracking", "proxy"}, proxy: true},
	{name: "relay", args: []string{"--tracking", "proxy", "--data", "relay"}, proxy: true, beside: true},
	{name: "kernel", args: []string{"--tracking", "kernel"}},
	{name: "routed-tls", direct: true, client: true, server: true},
	{name: "mod_proxy", modProxy: true, client: true},
	{name: "terminated", client: true},
	{name: "mod_proxy-both", modProxy: true, client: true, server: true},
	{name: "terminated-both", client: true, server: true},
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

// tools are what contestants are made with.
type tools struct {
	ftpgate string // the program
	peers   string // the directory of scripts/test-peers
	seal    seal
}

// settle makes the gateway of the stage what the contestant stands for.
func (c contestant) settle(ctx context.Context, s *stage, with tools, extra []string) error {
	var err error
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
	case c.modProxy:
		err = c.settleModProxy(s, with)
	default:
		err = c.settleFtpgate(s, with, extra)
	}
	if err != nil {
		return err
	}
	return s.gateway.ready(ctx)
}

// settleFtpgate runs ftpgate on the gateway.
func (c contestant) settleFtpgate(s *stage, with tools, extra []string) error {
	args := slices.Concat([]string{"forward"}, c.args, c.secure(with.seal), extra, []string{gatewayAt.String(), originAt.String()})
	cmd := program(with.ftpgate, args...)
	var err error
	s.gateway, err = launch(s.lab.Gateway(), "ftpgate "+strings.Join(args, " "), cmd, readyText, func() error { return cmd.Process.Signal(syscall.SIGINT) })
	return err
}

// secure is how ftpgate forward is told where TLS is spoken.
func (c contestant) secure(with seal) (args []string) {
	if c.client {
		args = append(args, "--tls-client", "required", "--tls-cert", with.cert(), "--tls-key", with.key())
	}
	if c.server {
		args = append(args, "--tls-server", "required", "--tls-ca", with.ca())
	}
	return args
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
