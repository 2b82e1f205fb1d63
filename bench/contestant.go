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

	"ftpgate/internal/try/lab"
)

// contestant is one way from the client to the server.
type contestant struct {
	name   string
	direct bool     // the client dials the server itself
	rules  string   // nft text for the gateway
	args   []string // of ftpgate forward, if the contestant is a process
	proxy  bool     // the process proxies control connections

	clientTLS    bool // the client uses TLS
	serverTLS    bool // the server does
	modProxy     bool // the process is proftpd
	tlsReference bool // without TLS, and measured beside those with it
}

// contestants are all that can be measured, in the order of the table.
var contestants = []contestant{
	{name: "routed", direct: true, tlsReference: true},
	{name: "helper", rules: recipe},
	{name: "proxy", args: []string{"--tracking", "proxy"}, proxy: true},
	{name: "relay", args: []string{"--tracking", "proxy", "--data", "relay"}, proxy: true,
		tlsReference: true},
	{name: "kernel", args: []string{"--tracking", "kernel"}},
	{name: "routed-tls", direct: true, clientTLS: true, serverTLS: true},
	{name: "mod_proxy", modProxy: true, clientTLS: true},
	{name: "terminated", clientTLS: true},
	{name: "mod_proxy-both", modProxy: true, clientTLS: true, serverTLS: true},
	{name: "terminated-both", clientTLS: true, serverTLS: true},
}

// recipe is what administrators type by hand. The helper takes effect only if it is attached after
// connection tracking (-200) and before NAT (-100).
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
	gatewayAddr = netip.AddrPortFrom(lab.GatewayLAN4, 2121)
	originAddr  = netip.AddrPortFrom(lab.ServerAddr4, 21)
)

// findContestants returns the contestants with these names. For an unknown name, the error lists all.
func findContestants(names []string) ([]contestant, error) {
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

// target is the address that clients connect to.
func (c contestant) target() netip.AddrPort {
	if c.direct {
		return originAddr
	}
	return gatewayAddr
}

// tools are the programs and files that contestants need.
type tools struct {
	ftpgate string // path of the program
	peers   string // directory of scripts/test-peers
	certs   certDir
}

// setUp prepares the gateway of the testbed for the contestant, and waits until it is ready.
func (c contestant) setUp(ctx context.Context, s *testbed, with tools, extra []string) error {
	var err error
	switch {
	case c.direct:
		// In the lab the server has no route to the client.
		if _, err := s.lab.Server().Output(ctx, "ip", "route", "add",
			lab.LANPrefix4.String(), "via", lab.GatewayWAN4.String()); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		if _, err := s.lab.Client().Output(ctx, "ip", "route", "add",
			lab.WANPrefix4.String(), "via", lab.GatewayLAN4.String()); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		return s.lab.Gateway().WriteSysctl("net.ipv4.ip_forward", "1")
	case c.rules != "":
		if err := loadRules(s.lab.Gateway(), c.rules); err != nil {
			return fmt.Errorf("bench: %s: %w", c.name, err)
		}
		return s.lab.Gateway().WriteSysctl("net.ipv4.ip_forward", "1")
	case c.modProxy:
		err = c.setUpModProxy(s, with)
	default:
		err = c.setUpFtpgate(s, with, extra)
	}
	if err != nil {
		return err
	}
	return s.gateway.waitReady(ctx)
}

// setUpFtpgate runs ftpgate on the gateway.
func (c contestant) setUpFtpgate(s *testbed, with tools, extra []string) error {
	args := slices.Concat([]string{"forward"}, c.args, c.tlsFlags(with.certs), extra,
		[]string{gatewayAddr.String(), originAddr.String()})
	cmd := command(with.ftpgate, args...)
	var err error
	s.gateway, err = startProcess(s.lab.Gateway(), "ftpgate "+strings.Join(args, " "), cmd, readyText,
		func() error { return cmd.Process.Signal(syscall.SIGINT) })
	return err
}

// tlsFlags are the flags of ftpgate forward for TLS.
func (c contestant) tlsFlags(with certDir) (args []string) {
	if c.clientTLS {
		args = append(args, "--tls-client", "required", "--tls-cert", with.cert(), "--tls-key", with.key())
	}
	if c.serverTLS {
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
