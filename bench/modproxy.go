package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"ftpgate/internal/try/lab"
)

// proftpd has the paths of its program and its modules, from Debian's packages.
type proftpd struct{ program, modules string }

// findProftpd looks for proftpd with mod_proxy and mod_tls in the directory of scripts/test-peers, then in
// the system. The error says what is missing.
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

// startupText is what proftpd logs when it listens.
const startupText = "standalone mode STARTUP"

// setUpModProxy runs proftpd with mod_proxy on the gateway, as a reverse proxy for one server.
func (c contestant) setUpModProxy(s *testbed, with tools) error {
	var err error
	// A lab's /run is a tmpfs, like Debian's, which is where these files usually are.
	if s.dir, err = os.MkdirTemp("/run", "ftpgate-bench-proftpd-"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	p, err := findProftpd(with.peers)
	if err != nil {
		return fmt.Errorf("bench: %s: %w", c.name, err)
	}
	// It refuses a directory that others can read.
	if err := os.Mkdir(filepath.Join(s.dir, "tables"), 0o700); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	conf := filepath.Join(s.dir, "proftpd.conf")
	if err := os.WriteFile(conf, []byte(c.modProxyConf(s.dir, p, with.certs)), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	cmd := command(p.program, "--nodaemon", "--config", conf)
	s.gateway, err = startProcess(s.lab.Gateway(), c.name, cmd, startupText,
		func() error { return cmd.Process.Signal(syscall.SIGTERM) })
	return err
}

// modProxyConf is a configuration with nothing that slows mod_proxy down: no log of commands, no delays, no
// IPv6. It requires session reuse of clients, which is the default of mod_tls.
func (c contestant) modProxyConf(dir string, p proftpd, with certDir) string {
	lines := []string{
		"ServerType standalone", "ServerName bench", "UseIPv6 off",
		"DefaultAddress " + gatewayAddr.Addr().String(), "SocketBindTight on",
		fmt.Sprintf("Port %d", gatewayAddr.Port()),
		"User root", "Group root", // the only user that every system has
		"UseReverseDNS off", "ControlsEngine off", "WtmpLog off", "TransferLog none", "DelayEngine off",
		"PidFile " + dir + "/pid", "ScoreboardFile none",
		"ModulePath " + p.modules, "LoadModule mod_tls.c", "LoadModule mod_proxy.c",
		"TLSEngine on", "TLSRequired on", "TLSProtocol TLSv1.3",
		"TLSCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256",
		"TLSECCertificateFile " + with.cert(), "TLSECCertificateKeyFile " + with.key(),
		"ProxyEngine on", "ProxyRole reverse", "ProxyTables " + dir + "/tables",
		"ProxyReverseServers ftp://" + originAddr.String(),
		// By default it takes the address that the client connected to.
		"ProxySourceAddress " + lab.GatewayWAN4.String(),
	}
	if c.serverTLS {
		lines = append(lines, "ProxyTLSEngine on", "ProxyTLSProtocol TLSv1.3",
			"ProxyTLSCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256",
			"ProxyTLSCACertificateFile "+with.ca())
	} else {
		lines = append(lines, "ProxyTLSEngine off")
	}
	return strings.Join(lines, "\n") + "\n"
}
