package config

import (
	"reflect"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

// tlsForms returns one table tls in every way that TOML has to write it.
func tlsForms(t testing.TB) map[string]string {
	t.Helper()
	keys := []string{
		`client = "required"`, `implicit = true`, `cert = "c.pem"`, `key = "k.pem"`,
		`names = ["a.test", "*.B.test"]`,
		`session_reuse = false`,
		`ccc = true`,
		`client_close_notify = "optional"`, `client_min_version = "1.0"`, `client_ca = "clients.pem"`,
		`client_auth = "optional"`, `client_crl = "crl.pem"`, `server = "implicit"`, `server_data = "clear"`,
		`ca = "ca.pem"`,
		`server_name = "2001:db8::21"`,
		`client_cert = "cc.pem"`, `client_key = "ck.pem"`, `verify = "full"`,
		`server_close_notify = "optional"`, `server_min_version = "1.1"`,
	}
	if n := len(tlsTable.keyNames()); len(keys) != n {
		t.Fatalf("got %d keys; want all %d", len(keys), n)
	}
	const forward = "listen = \":990\"\nserver = \"203.0.113.21:990\"\n"
	header := "[[forward]]\n" + forward + "[forward.tls]\n" + strings.Join(keys, "\n")
	return map[string]string{
		"header":        header,
		"CRLF":          strings.ReplaceAll(header, "\n", "\r\n"),
		"quoted header": strings.Replace(header, "[forward.tls]", "[ \"forward\" . 'tls' ] # FTPS", 1),
		"inline":        "[[forward]]\ntls = { " + strings.Join(keys, ", ") + " }\n" + forward,
		"dotted":        "[[forward]]\n'tls' . " + strings.Join(keys, "\ntls.") + "\n" + forward,
		"apart": "[[forward]]\ntls." + strings.Join(keys[:7], "\ntls.") + "\n" + forward + "tls." +
			strings.Join(keys[7:], "\ntls."),
		"all in one": "forward = [{ listen = ':990', server = '203.0.113.21:990', tls = {" +
			strings.Join(keys, ", ") + "} }]",
		"dots in one": "forward = [{ listen = ':990', tls." + strings.Join(keys, ", tls.") +
			", server = '203.0.113.21:990' }]",
	}
}

// TestParseTLS: Parse accepts the table in every way that TOML has to write it.
func TestParseTLS(t *testing.T) {
	want := []forward.Forward{{
		Name:   ":990",
		Listen: forward.Listen{Port: 990},
		Server: forward.Server{Host: "203.0.113.21", Port: 990},
		TLS: forward.TLS{
			Client: forward.ClientTLSRequired, Implicit: true, Cert: "c.pem", Key: "k.pem",
			Names: []string{"a.test", "*.b.test"}, SessionReuseOptional: true, CCC: true,
			ClientCloseNotifyOptional: true, ClientMinVersion: forward.TLS10,
			ClientCA: "clients.pem", ClientAuthOptional: true, ClientCRL: "crl.pem",
			Server: forward.ServerTLSImplicit, ServerDataClear: true, CA: "ca.pem",
			ServerName: "2001:db8::21",
			ClientCert: "cc.pem", ClientKey: "ck.pem", ServerCloseNotifyOptional: true,
			ServerMinVersion: forward.TLS11,
		},
	}}
	for name, text := range tlsForms(t) {
		got, err := parse("f.toml", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: got error %v; want none for\n%s", name, err, text)
		} else if !reflect.DeepEqual(got.Forwards, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got.Forwards, want)
		}
	}
}

// TestParseTLSBelongs: a table belongs to the last forward above it, and keys that are left out have their
// defaults.
func TestParseTLSBelongs(t *testing.T) {
	got, err := parse("f.toml", strings.NewReader(`
[[forward]]
listen = ":2121"
server = "a"
[forward.tls]
[[forward]]
listen = ":2122"
server = "b"
tls.server = "required"
tls.verify = "insecure"
[[forward]]
listen = ":2123"
server = "c"
[forward.tls]
client = "optional"
cert = "self-signed"
session_reuse = true
[[forward]]
listen = ":2124"
server = "d"
server_ports = "50000-50100"
`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []forward.TLS{
		{}, {Server: forward.ServerTLSRequired, Insecure: true},
		{Client: forward.ClientTLSOptional, Cert: forward.SelfSigned}, {},
	} {
		if f := got.Forwards[i]; !reflect.DeepEqual(f.TLS, want) {
			t.Errorf("%s: got %+v; want %+v", f.Name, f.TLS, want)
		}
	}
	if !got.Forwards[3].PassesThrough() {
		t.Errorf("got %+v; want one that passes sessions through", got.Forwards[3])
	}
}
