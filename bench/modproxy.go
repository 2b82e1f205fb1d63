package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"ftpgate/internal/lab"
)

// proftpd is where its program and its modules are, from Debian's packages.
type proftpd struct{ program, modules string }

// findProftpd looks for proftpd with mod_proxy and mod_tls where scripts/test-peers has unpacked them,
// and then where they are installed. The error says what is missing.
func findProftpd(peers string) (proftpd, error) {
	var missing error
	for _, root := range []string{peers, "/"} {
		root, err := filepath.Abs(root)
		if err != nil {
			return proftpd{}, fmt.Errorf("bench: peers: %w", err)
		}
		p := proftpd{filepath.Join(root, "usr/sbin/proftpd"), filepath.Join(root, "usr/lib/proftpd")}
		_, err = exec.LookPath(p.program)
		for _, module := range []string{"mod_proxy.so", "mod_tls.so"} {
			if err == nil {
				_, err = os.Stat(filepath.Join(p.modules, module))
			}
		}
		if err == nil {
			return p, nil
		}
		missing = errors.Join(missing, err)
	}
	return proftpd{}, missing
}

// startup is what proftpd logs once it listens.
const startup = "standalone mode STARTUP"

// settleModProxy runs proftpd with mod_proxy on the gateway, as a gateway for one server.
func (c contestant) settleModProxy(s *stage, with tools) error {
	var err error
	// A lab's /run is memory, as it is where Debian keeps these files.
	if s.dir, err = os.MkdirTemp("/run", "ftpgate-bench-proftpd-"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	p, err := findProftpd(with.peers)
	if err != nil {
		return fmt.Errorf("bench: %s: %w", c.name, err)
	}
	// It refuses tables that others could read.
	if err := os.Mkdir(filepath.Join(s.dir, "tables"), 0o700); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	conf := filepath.Join(s.dir, "proftpd.conf")
	if err := os.WriteFile(conf, []byte(c.modProxyConf(s.dir, p, with.seal)), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	cmd := program(p.program, "--nodaemon", "--config", conf)
	s.gateway, err = launch(s.lab.Gateway(), c.name, cmd, startup, func() error { return cmd.Process.Signal(syscall.SIGTERM) })
	return err
}

// modProxyConf is a configuration without what a gateway of this kind does not need: no log of
// commands, no delays, no second family of addresses. Session reuse is required of clients, as is
// mod_tls's default.
func (c contestant) modProxyConf(dir string, p proftpd, with seal) string {
	lines := []string{
		"ServerType standalone", "ServerName bench", "UseIPv6 off",
		"DefaultAddress " + gatewayAt.Addr().String(), "SocketBindTight on", fmt.Sprintf("Port %d", gatewayAt.Port()),
		"User root", "Group root", // the one user that is everywhere
		"UseReverseDNS off", "ControlsEngine off", "WtmpLog off", "TransferLog none", "DelayEngine off",
		"PidFile " + dir + "/pid", "ScoreboardFile none",
		"ModulePath " + p.modules, "LoadModule mod_tls.c", "LoadModule mod_proxy.c",
		"TLSEngine on", "TLSRequired on", "TLSProtocol TLSv1.3", "TLSCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256",
		"TLSECCertificateFile " + with.cert(), "TLSECCertificateKeyFile " + with.key(),
		"ProxyEngine on", "ProxyRole reverse", "ProxyTables " + dir + "/tables", "ProxyReverseServers ftp://" + originAt.String(),
		"ProxySourceAddress " + lab.GatewayWAN4.String(), // its own choice is the address that the client dialled
	}
	if c.server {
		lines = append(lines, "ProxyTLSEngine on", "ProxyTLSProtocol TLSv1.3", "ProxyTLSCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256",
			"ProxyTLSCACertificateFile "+with.ca())
	} else {
		lines = append(lines, "ProxyTLSEngine off")
	}
	return strings.Join(lines, "\n") + "\n"
}
