package peers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// ClientTLS is how a client uses TLS. Without TLS, or with a certificate that does not verify, it
// stops.
type ClientTLS struct {
	CAFile         string
	Implicit       bool
	Version        string          // of TLS, like "1.2", for curl also "1.0"; "" for the best that both know
	Certificate    harness.KeyPair // what it presents; empty for none
	UsePASVAddress bool            // it connects to the address in a 227; never with passthrough
}

// TLSClient makes a client with TLS.
type TLSClient func(*testing.T, ClientTLS) Client

// TLSClients are the real ones by name. Python's ftplib is here twice: as it is, and with session
// resumption, as people add it for servers that demand it.
var TLSClients = map[string]TLSClient{
	"lftp": LFTPWithTLS, "curl": CurlWithTLS, "ftplib": ftplib, "ftplib resuming": FtplibResuming,
}

// passiveModes keeps the modes that work with passthrough: the gateway cannot translate a PORT that it
// cannot read.
func passiveModes(modes []Mode) []Mode {
	return slices.DeleteFunc(slices.Clone(modes), func(m Mode) bool { return m == PORT || m == EPRT })
}

// Passive is the client in its passive modes, for sessions that the gateway cannot read.
func (c Client) Passive() Client {
	c.ipv4, c.ipv6 = passiveModes(c.ipv4), passiveModes(c.ipv6)
	return c
}

func (v ClientTLS) scheme() string {
	if v.Implicit {
		return "ftps://"
	}
	return "ftp://"
}

// LFTPWithTLS is LFTP that insists on TLS.
func LFTPWithTLS(_ *testing.T, options ClientTLS) Client {
	settings := []string{"set ftp:ssl-force on", "set ftp:ssl-protect-data on", "set ftp:ssl-protect-list on",
		"set ssl:verify-certificate on", "set ssl:check-hostname on", "set ssl:ca-file " + options.CAFile,
		"set ssl:priority " + gnutlsVersion(options.Version)}
	if options.UsePASVAddress {
		settings = append(settings, "set ftp:fix-pasv-address off", "set ftp:verify-address on")
	}
	if options.Certificate.CertFile != "" {
		settings = append(settings, "set ssl:cert-file "+options.Certificate.CertFile,
			"set ssl:key-file "+options.Certificate.KeyFile)
	}
	c := LFTP
	c.invocations = func(v task) []Invocation {
		steps := lftpInvocations(v, append([]string{"set ftp:ssl-allow on"}, settings...)...)
		last := len(steps[0].Args) - 1
		steps[0].Args[last] = strings.ReplaceAll(steps[0].Args[last], " ftp://", " "+options.scheme())
		return steps
	}
	return c
}

// gnutlsVersion is GnuTLS's priority string for a version of TLS.
func gnutlsVersion(only string) string {
	if only == "" {
		return "NORMAL"
	}
	return "NORMAL:-VERS-ALL:+VERS-TLS" + only
}

// CurlWithTLS is Curl that insists on TLS, in passive mode: curl 7.87 to 7.88.1 forgets to start TLS on
// active data connections (fixed in 8.0; curl's issue 10666).
func CurlWithTLS(_ *testing.T, options ClientTLS) Client {
	c := Curl
	c.ipv4, c.ipv6 = passiveModes(c.ipv4), passiveModes(c.ipv6)
	more := []string{"--ssl-reqd", "--cacert", options.CAFile}
	if options.Version != "" {
		more = append(more, "--tls-max", options.Version, "--tlsv"+options.Version)
	}
	if options.Version == "1.0" || options.Version == "1.1" { // which OpenSSL does not do by itself
		more = append(more, "--ciphers", "ALL:@SECLEVEL=0")
	}
	if options.Certificate.CertFile != "" {
		more = append(more, "--cert", options.Certificate.CertFile, "--key", options.Certificate.KeyFile)
	}
	if !options.UsePASVAddress {
		more = append(more, "--ftp-skip-pasv-ip") // the last of two options counts
	}
	c.invocations = func(v task) []Invocation {
		steps := curlInvocations(v)
		for i, s := range steps {
			url := len(s.Args) - 1
			rest := strings.Replace(s.Args[url], "ftp://", options.scheme(), 1)
			steps[i].Args = append(append(slices.Clone(s.Args[:url]), more...), rest)
		}
		return steps
	}
	return c
}

func ftplib(t *testing.T, options ClientTLS) Client { return newFtplib(t, options, false) }

// FtplibResuming is Python's ftplib, made to resume the TLS session on data connections.
func FtplibResuming(t *testing.T, options ClientTLS) Client { return newFtplib(t, options, true) }

func newFtplib(t *testing.T, options ClientTLS, resume bool) Client {
	t.Helper()
	python := pythonWith(t, "ssl")
	name := "ftplib"
	if resume {
		name += " resuming"
	}
	return Client{name, []string{python}, []Mode{PASV, EPSV, PORT, EPRT}, []Mode{EPSV, EPRT},
		func(v task) []Invocation {
			args, err := json.Marshal(map[string]any{
				"host": v.address.Addr().String(), "port": v.address.Port(), "mode": v.mode, "user": v.user,
				"password": v.password,
				"dir":      listedDir, "file": DownloadPath, "upload": UploadPath, "fetched": v.downloaded,
				"sent": v.source,
				"ca":   options.CAFile, "max": options.Version, "cert": options.Certificate.CertFile,
				"key": options.Certificate.KeyFile, "believe": options.UsePASVAddress, "resume": resume,
			})
			if err != nil {
				panic(fmt.Sprint("peers: plain values: ", err))
			}
			return []Invocation{{Args: []string{python, script(t, "ftps_client.py"), string(args)}}}
		}}
}
