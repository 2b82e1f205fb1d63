package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// terms are what a server with TLS wants of its clients, beside TLS on control and data.
type terms struct {
	pair      keyPair // what it shows
	implicit  bool    // TLS from the first byte (port 990)
	max       string  // the newest version of TLS, "1.2"; "" for all
	clientsCA string  // whose certificate a client must show; "" for none
	noTickets bool    // with TLS 1.2, as is proftpd's default
}

// The server's passive ports, which a gateway that passes sessions through must know.
const (
	passiveFrom, passiveTo = 50000, 50100
	passiveRange           = "50000-50100"
)

// How the servers are told to begin with TLS; runPeer greets them in kind.
const (
	implicitVSFTPD  = "implicit_ssl=YES"
	implicitProFTPd = "TLSOptions UseImplicitSSL"
)

// secureServer runs a real server that refuses logins and data in clear.
type secureServer func(*testing.T, *lab.Host, netip.AddrPort, terms) server

// secureServers are those servers. vsftpd and proftpd refuse data connections that do not resume the
// session of the control connection.
var secureServers = map[string]secureServer{
	"vsftpd": secureVSFTPd, "proftpd": secureProFTPd, "pure-ftpd": securePureFTPd, "pyftpdlib": securePyftpdlib,
}

func secureVSFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, want terms) server {
	t.Helper()
	settings := []string{
		"ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_logins_ssl=YES", "force_anon_data_ssl=YES",
		"require_ssl_reuse=YES", "strict_ssl_read_eof=YES", "debug_ssl=YES",
		"rsa_cert_file=" + want.pair.cert, "rsa_private_key_file=" + want.pair.key,
		"ssl_ciphers=HIGH", // its own default is long dead
		fmt.Sprintf("pasv_min_port=%d", passiveFrom), fmt.Sprintf("pasv_max_port=%d", passiveTo),
	}
	if want.implicit {
		settings = append(settings, implicitVSFTPD)
	}
	if want.clientsCA != "" {
		settings = append(settings, "require_cert=YES", "validate_cert=YES", "ca_certs_file="+want.clientsCA)
	}
	if want.max != "" {
		t.Fatal("vsftpd 3.0.3 has no setting for the newest version of TLS")
	}
	return vsftpd(t, h, at, settings...)
}

func secureProFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, want terms) server {
	t.Helper()
	modules := filepath.Join(filepath.Dir(peer(t, "proftpd")), "..", "lib", "proftpd")
	protocols := "TLSv1.2 TLSv1.3"
	if want.max == "1.2" {
		protocols = "TLSv1.2"
	}
	log := filepath.Join(t.TempDir(), "tls.log")
	t.Cleanup(func() {
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("log of mod_tls:\n%s", text)
		}
	})
	settings := []string{
		"ModulePath " + modules, "LoadModule mod_tls.c", "TLSEngine on", "TLSRequired on",
		"TLSProtocol " + protocols, "TLSECCertificateFile " + want.pair.cert, "TLSECCertificateKeyFile " + want.pair.key,
		"TLSLog " + log, "AllowOverwrite on",
		fmt.Sprintf("PassivePorts %d %d", passiveFrom, passiveTo),
	}
	if !want.noTickets {
		settings = append(settings, "TLSSessionTickets on")
	}
	if want.implicit {
		settings = append(settings, implicitProFTPd)
	}
	if want.clientsCA != "" {
		settings = append(settings, "TLSVerifyClient on", "TLSCACertificateFile "+want.clientsCA)
	}
	return proFTPd(t, h, at, settings...)
}

func securePureFTPd(t *testing.T, h *lab.Host, at netip.AddrPort, want terms) server {
	t.Helper()
	// 3: for data as well.
	return pureFTPd(t, h, at, "--tls=3", "--certfile="+want.pair.cert+","+want.pair.key,
		"--passiveportrange", fmt.Sprintf("%d:%d", passiveFrom, passiveTo))
}

func securePyftpdlib(t *testing.T, h *lab.Host, at netip.AddrPort, want terms) server {
	t.Helper()
	python := pythonWith(t, "OpenSSL, pyftpdlib")
	s := newServer(t)
	args, err := json.Marshal(map[string]any{
		"host": at.Addr().String(), "port": at.Port(), "ports": []int{passiveFrom, passiveTo},
		"root": s.root, "user": s.user, "password": s.password, "cert": want.pair.together(t), "max": want.max,
	})
	if err != nil {
		t.Fatal(err)
	}
	runPeer(t, h, at, exec.Command(python, testdata(t, "ftps_server.py"), string(args)), greeting)
	return s
}

// testdata returns the path of a script of these tests.
func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// greetingInTLS is greeting for servers that begin with TLS.
func greetingInTLS(ctx context.Context, h *lab.Host, at netip.AddrPort) error {
	conn, err := h.Dial(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	// Is somebody there? Who it is the clients find out.
	return hears220(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
}
