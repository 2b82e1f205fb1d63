package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// trust is what a client with TLS knows: without TLS, or with a certificate that does not verify, it
// goes nowhere.
type trust struct {
	ca       string
	implicit bool
	only     string  // the version of TLS, "1.2" or "1.3"; "" for the best that both know
	own      keyPair // what it shows; empty for nothing
	believe  bool    // it takes the address of a 227 as it is; never so where a session is passed through
}

// secureClient makes a client with TLS that trusts.
type secureClient func(*testing.T, trust) client

// secureClients are the real ones. Of Python's there are two: what its library does by itself, and
// what people make of it for servers that demand resumption.
var secureClients = map[string]secureClient{
	"lftp": lftpTLS, "curl": curlTLS, "ftplib": ftplibTLS, "ftplib resuming": ftplibResuming,
}

// passiveOnly is for sessions that nobody reads: nobody could translate what PORT says.
func passiveOnly(modes []mode) []mode {
	return slices.DeleteFunc(slices.Clone(modes), func(m mode) bool { return m == port || m == eprt })
}

func (v trust) scheme() string {
	if v.implicit {
		return "ftps://"
	}
	return "ftp://"
}

func lftpTLS(_ *testing.T, know trust) client {
	settings := []string{"set ftp:ssl-force on", "set ftp:ssl-protect-data on", "set ftp:ssl-protect-list on",
		"set ssl:verify-certificate on", "set ssl:check-hostname on", "set ssl:ca-file " + know.ca, "set ssl:priority " + gnutlsVersion(know.only)}
	if know.believe {
		settings = append(settings, "set ftp:fix-pasv-address off", "set ftp:verify-address on")
	}
	if know.own.cert != "" {
		settings = append(settings, "set ssl:cert-file "+know.own.cert, "set ssl:key-file "+know.own.key)
	}
	c := lftp
	c.steps = func(v visit) []step {
		steps := lftpSteps(v, append([]string{"set ftp:ssl-allow on"}, settings...)...)
		last := len(steps[0].args) - 1
		steps[0].args[last] = strings.ReplaceAll(steps[0].args[last], " ftp://", " "+know.scheme())
		return steps
	}
	return c
}

// gnutlsVersion is GnuTLS's way to say which version it may speak.
func gnutlsVersion(only string) string {
	if only == "" {
		return "NORMAL"
	}
	return "NORMAL:-VERS-ALL:+VERS-TLS" + only
}

// curlTLS is passive: from 7.87 to 7.88.1 curl forgets to begin TLS on active data connections (fixed
// in 8.0; curl's issue 10666).
func curlTLS(_ *testing.T, know trust) client {
	c := curl
	c.v4, c.v6 = passiveOnly(c.v4), passiveOnly(c.v6)
	more := []string{"--ssl-reqd", "--cacert", know.ca}
	if know.only != "" {
		more = append(more, "--tls-max", know.only, "--tlsv"+know.only)
	}
	if know.own.cert != "" {
		more = append(more, "--cert", know.own.cert, "--key", know.own.key)
	}
	if !know.believe {
		more = append(more, "--ftp-skip-pasv-ip") // after the other: the last one counts
	}
	c.steps = func(v visit) []step {
		steps := curlSteps(v)
		for i, s := range steps {
			url := len(s.args) - 1
			rest := strings.Replace(s.args[url], "ftp://", know.scheme(), 1)
			steps[i].args = append(append(slices.Clone(s.args[:url]), more...), rest)
		}
		return steps
	}
	return c
}

func ftplibTLS(t *testing.T, know trust) client      { return pythonTLS(t, know, false) }
func ftplibResuming(t *testing.T, know trust) client { return pythonTLS(t, know, true) }

func pythonTLS(t *testing.T, know trust, resume bool) client {
	t.Helper()
	python := pythonWith(t, "ssl")
	name := "ftplib"
	if resume {
		name += " resuming"
	}
	return client{name, []string{python}, []mode{pasv, epsv, port, eprt}, []mode{epsv, eprt}, func(v visit) []step {
		args, err := json.Marshal(map[string]any{
			"host": v.at.Addr().String(), "port": v.at.Port(), "mode": v.mode, "user": v.user, "password": v.password,
			"dir": remoteDir, "file": remoteFile, "upload": uploadFile, "fetched": v.fetched, "sent": v.sent,
			"ca": know.ca, "max": know.only, "cert": know.own.cert, "key": know.own.key, "believe": know.believe, "resume": resume,
		})
		if err != nil {
			panic(fmt.Sprint("plain values: ", err))
		}
		return []step{{args: []string{python, testdata(t, "ftps_client.py"), string(args)}}}
	}}
}
