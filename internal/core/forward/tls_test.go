package forward_test

import (
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// giveTLS sets a key of the table tls.
func giveTLS(t *testing.T, f *forward.Forward, key, value string) {
	t.Helper()
	texts := map[string]*string{"tls.cert": &f.TLS.Cert, "tls.key": &f.TLS.Key, "tls.ca": &f.TLS.CA,
		"tls.server_name": &f.TLS.ServerName,
		"tls.client_cert": &f.TLS.ClientCert, "tls.client_key": &f.TLS.ClientKey,
		"tls.client_ca": &f.TLS.ClientCA, "tls.client_crl": &f.TLS.ClientCRL}
	marks := map[string]*bool{"tls.implicit=true": &f.TLS.Implicit,
		"tls.session_reuse=false": &f.TLS.SessionReuseOptional, "tls.ccc=true": &f.TLS.CCC,
		"tls.client_close_notify=optional": &f.TLS.ClientCloseNotifyOptional,
		"tls.client_auth=optional":         &f.TLS.ClientAuthOptional,
		"tls.server_data=clear":            &f.TLS.ServerDataClear, "tls.verify=insecure": &f.TLS.Insecure,
		"tls.server_close_notify=optional": &f.TLS.ServerCloseNotifyOptional}
	var err error
	switch {
	case key == "tls.client":
		f.TLS.Client, err = forward.ParseWord[forward.ClientTLS]("tls.client", value)
	case key == "tls.server":
		f.TLS.Server, err = forward.ParseWord[forward.ServerTLS]("tls.server", value)
	case key == "tls.client_min_version":
		f.TLS.ClientMinVersion, err = forward.ParseWord[forward.TLSVersion](key, value)
	case key == "tls.server_min_version":
		f.TLS.ServerMinVersion, err = forward.ParseWord[forward.TLSVersion](key, value)
	case texts[key] != nil:
		*texts[key] = value
	case marks[key+"="+value] != nil:
		*marks[key+"="+value] = true
	default:
		t.Fatalf("no key %q with value %q", key, value)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckTLS(t *testing.T) {
	runCheck(t, []checkTest{
		{"sound", []string{
			"a 192.0.2.1:21 203.0.113.1 proxy tls.client=optional tls.cert=self-signed",
			"b 192.0.2.2:990 203.0.113.1 proxy tls.client=required tls.implicit=true tls.cert=c.pem " +
				"tls.key=k.pem tls.session_reuse=false tls.ccc=true tls.client_close_notify=optional",
			"c 192.0.2.3:21 203.0.113.1 proxy tls.server=required tls.ca=ca.pem " +
				"tls.server_name=ftp.example.com tls.client_cert=c.pem tls.client_key=k.pem " +
				"tls.server_close_notify=optional",
			"d 192.0.2.4:21 203.0.113.1:990 proxy tls.server=implicit tls.verify=insecure " +
				"tls.client_cert=both.pem",
			"e 192.0.2.5:21 203.0.113.1 proxy data=kernel tls.server=required tls.server_data=clear",
			"f 192.0.2.6:21 203.0.113.1 proxy data=relay tls.client=required tls.cert=c.pem " +
				"tls.server=required",
		}, nil},
		{"certificates of clients", []string{
			"a 192.0.2.1:21 203.0.113.1 proxy tls.client=required tls.cert=c.pem tls.client_ca=ca.pem " +
				"tls.client_crl=crl.pem",
			"b 192.0.2.2:21 203.0.113.1 proxy tls.client=optional tls.cert=c.pem tls.client_ca=ca.pem " +
				"tls.client_auth=optional"}, nil},
		{"a certificate, and yet in clear", []string{
			"a :21 203.0.113.1 proxy tls.client=optional tls.cert=c.pem tls.client_ca=ca.pem"}, []string{
			`0 tls.client_ca tls.client_ca requires a certificate, which a client in clear has not: want ` +
				`tls.client = "required", not optional; or tls.client_auth = "optional"`}},
		{"no authorities of clients", []string{"a :21 203.0.113.1 proxy tls.client=required tls.cert=c.pem " +
			"tls.client_auth=optional tls.client_crl=crl.pem"}, []string{
			"0 tls.client_auth tls.client_auth is about clients' certificates",
			"0 tls.client_crl tls.client_crl says which clients' certificates are revoked"}},
		{"no certificate", []string{"a :21 203.0.113.1 proxy tls.client=optional tls.key=k.pem"}, []string{
			`0 tls.cert tls.client optional needs a certificate: set tls.cert to its file, or use tls.cert ` +
				`= "self-signed" to try things out`}},
		{"a key for a certificate that is made", []string{"a :21 203.0.113.1 proxy tls.client=optional " +
			"tls.key=k.pem tls.cert=self-signed"}, []string{
			`0 tls.key with tls.cert = "self-signed" ftpgate makes the key, too`}},
		{"implicit and optional", []string{"a :990 203.0.113.1 proxy tls.client=optional tls.implicit=true " +
			"tls.cert=c.pem"}, []string{
			`0 tls.implicit tls.implicit begins with TLS and never has plain text: want tls.client = ` +
				`"required", not optional`}},
		{"a client's key without its certificate",
			[]string{"a :21 203.0.113.1 proxy tls.server=required tls.client_key=k.pem"}, []string{
				"0 tls.client_key tls.client_key belongs to a certificate: name its file " +
					"with tls.client_cert"}},
		{"insecure, and yet checked", []string{"a :21 203.0.113.1 proxy tls.server=implicit " +
			"tls.verify=insecure tls.ca=ca.pem tls.server_name=a.example"}, []string{
			`0 tls.ca tls.ca sets the trusted authorities, and tls.verify = "insecure" accepts any cert`,
			"0 tls.server_name tls.server_name says whose certificate is good"}},
		{"data kernel with TLS for clients", []string{"a :21 203.0.113.1 proxy data=kernel " +
			"tls.client=optional tls.cert=c.pem tls.server=required"}, []string{
			"0 data with tls.client optional ftpgate itself encrypts transfers: the kernel cannot carry " +
				"them; set data = \"auto\""}},
		{"data kernel with TLS for the server", []string{"a :21 203.0.113.1 proxy data=kernel " +
			"tls.server=implicit"}, []string{
			"0 data with tls.server implicit ftpgate itself encrypts transfers"}},
	})
}

// TestCheckPassthrough: the faults of a proxy's server_ports, which pass encrypted sessions through.
func TestCheckPassthrough(t *testing.T) { runCheck(t, passthroughTests) }

var passthroughTests = []checkTest{
	{"sound", []string{
		"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100",
		"b 192.0.2.1:990 203.0.113.1:990 proxy 50101-50200 passive_ports=50201-50300",
		"c 192.0.2.2:1023 203.0.113.1 proxy 1024-60999",
		"d 192.0.2.3:21 2001:db8::21 proxy 50000 data=relay",
		"e 192.0.2.1:2121 203.0.113.9 proxy data=kernel",
	}, nil},
	{"with TLS for clients", []string{"a :21 203.0.113.1 proxy 50000-50100 tls.client=required " +
		"tls.cert=c.pem tls.server=required"}, []string{
		"0 server_ports server_ports passes encrypted sessions through, and tls.client required ends " +
			"them here: leave one of them out"}},
	{"with TLS for the server", []string{"a :21 203.0.113.1 proxy 50000-50100 tls.server=implicit"},
		[]string{
			"0 server_ports server_ports passes encrypted sessions through, and tls.server implicit " +
				"begins them here"}},
	{"all", []string{"a :21 203.0.113.1 proxy all 10.0.0.0/8", "b :2121 203.0.113.1"}, []string{
		`0 server_ports server_ports all: the ports below 1024 are those of services: want the ` +
			`server's passive ports, within "1024-60999"`}},
	{"too low", []string{"a :21 203.0.113.1 proxy 1023-2000"},
		[]string{"0 server_ports server_ports 1023-2000: the ports below 1024"}},
	{"listen within, to another port", []string{"a :50050 203.0.113.1 proxy 50000-50100"},
		[]string{"0 server_ports listen port 50050 lies within server_ports 50000-50100: a client"}},
	{"listen within, to the same port", []string{"a :50050 203.0.113.1:50050 proxy 50000-50100"},
		[]string{"0 server_ports listen port 50050 lies within"}},
	{"which tracking none may", []string{"a :50050 203.0.113.1:50050 none 50000-50100"}, nil},
	{"more than the relay can open", []string{"a 192.0.2.1:21 203.0.113.1 proxy 50000-51024 data=relay",
		"b 192.0.2.2:21 2001:db8::21 proxy 50000-51024",
		"c 127.0.0.1:2121 127.0.0.1 proxy 50000-51024",
		"d 192.0.2.3:21 203.0.113.1 proxy 50000-51023 data=relay",
		"e 192.0.2.4:21 ftp.example.com proxy 50000-51024"}, []string{
		"0 server_ports server_ports 50000-51024 are 1025 ports, and with data relay at most 1024 can " +
			"be opened: name the server's passive ports, and no more",
		"1 server_ports server_ports 50000-51024 are 1025 ports, and between IPv4 and IPv6 at most 1024",
		"2 server_ports server_ports 50000-51024 are 1025 ports, and on loopback at most"}},
	{"one server, explicit and implicit", []string{"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100",
		"b 192.0.2.1:990 203.0.113.1:990 proxy 50000-50100",
		"c 192.0.2.1:991 203.0.113.2:990 proxy 50000-50100"},
		[]string{`2 server_ports server_ports 50000-50100 overlap 50000-50100 of forward "a"`,
			`2 server_ports server_ports 50000-50100 overlap 50000-50100 of forward "b"`}},
	{"no port left", []string{"a :21 203.0.113.1 proxy 49152-65535",
		"b :22 203.0.113.1 proxy 49152-65535 passive_ports=40000-41000"}, []string{
		"0 server_ports server_ports 49152-65535 leave no port for data in clear: give the forward " +
			"passive_ports"}},
	{"own passive ports", []string{"a :21 203.0.113.1 proxy 50000-50100 passive_ports=50100-50200"},
		[]string{
			"0 passive_ports passive_ports 50100-50200 overlap server_ports 50000-50100 " +
				"of the same forward"}},
	{"own passive ports, too low",
		[]string{"a :21 203.0.113.1 proxy 50000-50100 passive_ports=900-50200"},
		[]string{"0 passive_ports passive_ports 900-50200: the ports below"}},
	{"of two at one address", []string{"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100",
		"b :2121 203.0.113.2 proxy 50100"}, []string{
		`1 server_ports server_ports 50100 overlap 50000-50100 of forward "a" at the same address`}},
	{"of two at two addresses", []string{"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100",
		"b 192.0.2.2:21 203.0.113.2 proxy 50000-50100"}, nil},
	{"of one with a proxy and one without", []string{"a 192.0.2.1:21 203.0.113.1 none 50000-50100",
		"b 192.0.2.1:2121 203.0.113.2 proxy 50000-50100"}, []string{
		`1 server_ports server_ports 50000-50100 overlap 50000-50100 of forward "a"`}},
	{"of one within all of another", []string{"a 192.0.2.1:21 203.0.113.1 none all 10.0.0.0/8",
		"b 192.0.2.1:2121 203.0.113.2 proxy 50000-50100"}, []string{
		`1 listen listen 192.0.2.1:2121 lies within the server_ports "all" of forward "a"`}},
	{"of one within all of a later one", []string{"b 192.0.2.1:2121 203.0.113.2 proxy 50000-50100",
		"a 192.0.2.1:21 203.0.113.1 none all 10.0.0.0/8"}, []string{
		`0 listen listen 192.0.2.1:2121 lies within the server_ports "all" of forward "a"`}},
	{"listen of another within", []string{"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100",
		"b :50050 203.0.113.2 kernel"}, []string{
		`1 listen listen :50050 lies within the server_ports 50000-50100 of forward "a"`}},
	{"passive ports of another", []string{"b 192.0.2.1:2121 203.0.113.2 proxy passive_ports=50100-50200",
		"a 192.0.2.1:21 203.0.113.1 proxy 50000-50100"}, []string{
		`0 passive_ports passive_ports 50100-50200 overlap the server_ports 50000-50100 of forward "a" ` +
			`at the same address`}},
}

// TestFTPS: the way that an encrypted session takes, and why.
func TestFTPS(t *testing.T) {
	for _, tt := range []struct{ forward, way, why string }{
		{"a :21 203.0.113.1", "refused", "AUTH gets 534; set server_ports or [forward.tls] to allow FTPS"},
		{"a :21 203.0.113.1 kernel", "fails", "it is not refused, and the kernel's helper cannot read it; " +
			"tracking proxy can carry it"},
		{"a :21 203.0.113.1 none 50000-50100", "passed through", "with tracking none server_ports " +
			"50000-50100 are open to every client at any time, for passive mode only"},
		{"a :21 203.0.113.1 proxy 50000-50100", "passed through", "server_ports 50000-50100 are open to a " +
			"client while it has an encrypted session, for passive mode only"},
		{"a :21 203.0.113.1 proxy tls.client=optional tls.cert=c.pem", "terminated",
			"clients may ask for TLS, the server gets plain FTP"},
		{"a :21 203.0.113.1 proxy tls.client=required tls.cert=c.pem", "terminated",
			"clients must ask for TLS, the server gets plain FTP"},
		{"a :21 203.0.113.1 proxy tls.client=required tls.implicit=true tls.cert=c.pem", "terminated",
			"clients must begin with TLS (implicit), the server gets plain FTP"},
		{"a :21 203.0.113.1 proxy tls.client=required tls.cert=c.pem tls.client_ca=ca.pem", "terminated",
			"clients must ask for TLS and present a certificate, the server gets plain FTP"},
		{"a :21 203.0.113.1 proxy tls.client=optional tls.cert=c.pem tls.client_ca=ca.pem " +
			"tls.client_auth=optional tls.client_min_version=1.0", "terminated",
			"clients may ask for TLS and " +
				"may present a certificate (TLS 1.0 will do, which is not safe), the server gets plain FTP"},
		{"a :21 203.0.113.1 proxy tls.server=required tls.server_min_version=1.1", "originated",
			"clients speak plain FTP and AUTH is answered with 534, the server gets TLS (TLS 1.1 will do, " +
				"which is not safe)"},
		{"a :21 203.0.113.1 proxy tls.server=required", "originated",
			"clients speak plain FTP and AUTH is answered with 534, the server gets TLS"},
		{"a :21 203.0.113.1 proxy tls.server=implicit tls.server_data=clear tls.verify=insecure",
			"originated",
			"clients speak plain FTP and AUTH is answered with 534, the server gets TLS (implicit) and " +
				"data in clear, its certificate is not verified"},
		{"a :21 203.0.113.1 proxy tls.client=required tls.cert=c.pem tls.server=required", "re-encrypted",
			"clients must ask for TLS, the server gets TLS"},
	} {
		f := parseForward(t, tt.forward)
		if way, why := f.FTPS(); way != tt.way || why != tt.why {
			t.Errorf("%s: got %q, %q; want %q, %q", tt.forward, way, why, tt.way, tt.why)
		}
		if passes := tt.way == "passed through" &&
			f.Tracking == forward.TrackingProxy; f.PassesThrough() != passes {
			t.Errorf("%s: got PassesThrough %t; want %t", tt.forward, f.PassesThrough(), passes)
		}
	}
}

func TestCheckServerName(t *testing.T) {
	for name, wrong := range map[string]string{
		"ftp.example.com": "", "203.0.113.21": "", "2001:db8::21": "", "plc_7": "",
		"": "neither", "*.example.com": "neither", "ftp.example.com:21": "neither",
		"203.0.113.256": "neither", "fe80::1%lan0": "neither", "[2001:db8::21]": "neither",
	} {
		check(t, name, name, name, forward.CheckServerName(name), wrong)
	}
}

// TestParseTLSWords: each word and its value belong together.
func TestParseTLSWords(t *testing.T) {
	for i, s := range []string{"off", "optional", "required"} {
		c, err := forward.ParseWord[forward.ClientTLS]("tls.client", s)
		check(t, s, c.String(), s, err, "")
		if int(c) != i {
			t.Errorf("%s: got %d; want %d", s, c, i)
		}
	}
	for _, s := range []string{"off", "required", "implicit"} {
		c, err := forward.ParseWord[forward.ServerTLS]("tls.server", s)
		check(t, s, c.String(), s, err, "")
	}
	_, err := forward.ParseWord[forward.ClientTLS]("tls.client", "implicit")
	check(t, "implicit", "", "", err, `unknown tls.client "implicit": want off, optional or required`)
	_, err = forward.ParseWord[forward.ServerTLS]("tls.server", "optional")
	check(t, "optional", "", "", err, `unknown tls.server "optional": want off, required or implicit`)
}

// TestFaultsAreSentences: the faults of TLS fit a line and have no full stop, as all faults.
func TestFaultsAreSentences(t *testing.T) {
	faults := slices.Concat(forward.Check([]forward.Forward{
		parseForward(t, "a 192.0.2.1:21 203.0.113.1 proxy all data=kernel passive_ports=2000-3000 "+
			"tls.client=optional tls.implicit=true"),
		parseForward(t, "b 192.0.2.2:21 203.0.113.1 proxy data=kernel tls.server=required tls.client_key=k "+
			"tls.verify=insecure tls.ca=a tls.server_name=b"),
	})...)
	if len(faults) != 8 {
		t.Errorf("got %d faults; want 8\n%v", len(faults), faults)
	}
	if slices.ContainsFunc(faults, func(f finding.Finding) bool {
		return f.Text == "" || strings.ContainsAny(f.Text, "\n%") || strings.HasSuffix(f.Text, ".")
	}) {
		t.Errorf("got %v; want lines without a full stop", faults)
	}
}

// What an answer to PROT means depends on how TLS began.
func TestAgreesOnData(t *testing.T) {
	for _, tt := range []struct {
		tls  forward.TLS
		yes  []int
		noes []int
	}{
		{forward.TLS{Server: forward.ServerTLSRequired}, []int{200, 232}, []int{431, 500, 502, 534, 536,
			550}},
		{forward.TLS{Server: forward.ServerTLSRequired, ServerDataClear: true}, []int{200, 500, 502, 503,
			504},
			[]int{431, 530, 534, 536, 550}},
		{forward.TLS{Server: forward.ServerTLSImplicit}, []int{200, 500, 502, 503, 504, 530, 550}, []int{421,
			431, 534, 536}},
		{forward.TLS{Server: forward.ServerTLSImplicit, ServerDataClear: true}, []int{200}, []int{500, 502,
			534, 550}},
	} {
		for _, code := range tt.yes {
			if !tt.tls.AgreesOnData(code) {
				t.Errorf("%s, clear %t: got no for %d", tt.tls.Server, tt.tls.ServerDataClear, code)
			}
		}
		for _, code := range tt.noes {
			if tt.tls.AgreesOnData(code) {
				t.Errorf("%s, clear %t: got yes for %d", tt.tls.Server, tt.tls.ServerDataClear, code)
			}
		}
	}
}
