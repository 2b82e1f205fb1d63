package peers

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// ServerTLS is what a server with TLS requires of its clients, beside TLS on control and data.
type ServerTLS struct {
	Certificate harness.KeyPair // what it presents
	Implicit    bool            // TLS from the first byte (port 990)
	MaxVersion  string          // "1.2", or "" for all
	ClientCA    string          // a client must present a certificate of this authority; "" for none
	NoTickets   bool            // with TLS 1.2, as by proftpd's default
}

// PassiveMin and PassiveMax bound the server's passive ports. For passthrough the gateway must know
// them.
const (
	PassiveMin, PassiveMax = 50000, 50100
	PassiveRange           = "50000-50100"
)

// The settings for implicit TLS. startServer expects the greeting in TLS with them.
const (
	implicitVSFTPD  = "implicit_ssl=YES"
	implicitProFTPd = "TLSOptions UseImplicitSSL"
)

// TLSServer runs a real server that refuses logins and data in clear.
type TLSServer func(*testing.T, *lab.Host, netip.AddrPort, ServerTLS) Server

// TLSServers are those servers by name. vsftpd and proftpd refuse data connections that do not resume
// the session of the control connection.
var TLSServers = map[string]TLSServer{
	"vsftpd": VSFTPDWithTLS, "proftpd": ProFTPDWithTLS, "pure-ftpd": pureFTPdWithTLS,
	"pyftpdlib": pyftpdlibWithTLS,
}

// VSFTPDWithTLS runs vsftpd with TLS.
func VSFTPDWithTLS(t *testing.T, h *lab.Host, at netip.AddrPort, want ServerTLS) Server {
	t.Helper()
	settings := append([]string{
		"ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_logins_ssl=YES", "force_anon_data_ssl=YES",
		"require_ssl_reuse=YES", "strict_ssl_read_eof=YES", "debug_ssl=YES",
		"rsa_cert_file=" + want.Certificate.CertFile, "rsa_private_key_file=" + want.Certificate.KeyFile,
		"ssl_ciphers=HIGH", // its default is obsolete
	}, PassiveRangeSettings...)
	if want.Implicit {
		settings = append(settings, implicitVSFTPD)
	}
	if want.ClientCA != "" {
		settings = append(settings, "require_cert=YES", "validate_cert=YES", "ca_certs_file="+want.ClientCA)
	}
	if want.MaxVersion != "" {
		t.Fatal("vsftpd 3.0.3 has no setting for the newest version of TLS")
	}
	return VSFTPD(t, h, at, settings...)
}

// ProFTPDWithTLS runs proftpd with TLS.
func ProFTPDWithTLS(t *testing.T, h *lab.Host, at netip.AddrPort, want ServerTLS) Server {
	t.Helper()
	modules := filepath.Join(filepath.Dir(findProgram(t, "proftpd")), "..", "lib", "proftpd")
	protocols := "TLSv1.2 TLSv1.3"
	if want.MaxVersion == "1.2" {
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
		"TLSProtocol " + protocols, "TLSECCertificateFile " + want.Certificate.CertFile,
		"TLSECCertificateKeyFile " + want.Certificate.KeyFile,
		"TLSLog " + log, "AllowOverwrite on",
		fmt.Sprintf("PassivePorts %d %d", PassiveMin, PassiveMax),
	}
	if !want.NoTickets {
		settings = append(settings, "TLSSessionTickets on")
	}
	if want.Implicit {
		settings = append(settings, implicitProFTPd)
	}
	if want.ClientCA != "" {
		settings = append(settings, "TLSVerifyClient on", "TLSCACertificateFile "+want.ClientCA)
	}
	return ProFTPD(t, h, at, settings...)
}

func pureFTPdWithTLS(t *testing.T, h *lab.Host, at netip.AddrPort, want ServerTLS) Server {
	t.Helper()
	// 3: for data as well.
	return pureFTPd(t, h, at, "--tls=3", "--certfile="+want.Certificate.CertFile+","+want.Certificate.KeyFile,
		"--passiveportrange", fmt.Sprintf("%d:%d", PassiveMin, PassiveMax))
}

func pyftpdlibWithTLS(t *testing.T, h *lab.Host, at netip.AddrPort, want ServerTLS) Server {
	t.Helper()
	python := pythonWith(t, "OpenSSL, pyftpdlib")
	s := newServer(t)
	args, err := json.Marshal(map[string]any{
		"host": at.Addr().String(), "port": at.Port(), "ports": []int{PassiveMin, PassiveMax},
		"root": s.Root, "user": s.User, "password": s.Password, "cert": want.Certificate.CombinedFile(t),
		"max": want.MaxVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, h, at, exec.Command(python, script(t, "ftps_server.py"), string(args)), false)
	return s
}

// scripts are the Python programs of clients and servers.
//
//go:embed testdata/*.py
var scripts embed.FS

// script writes a script to a file of the test and returns its path.
func script(t *testing.T, name string) string {
	t.Helper()
	text, err := scripts.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return harness.WriteFile(t, name, string(text))
}
