package scenario

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// tlsCase is a way in which a gateway carries FTPS, and what the wiretaps must show.
type tlsCase struct {
	name, title, text string
	flags             []string
	server            TLSMode
	mode              ftpclient.Mode   // of the session whose dialogue is printed
	modes             []ftpclient.Mode // of the sessions that follow
	// name in the certificate that the client expects; empty: it uses no TLS
	certName     string
	clientLegTLS bool // the leg between client and gateway uses TLS
	serverLegTLS bool // and the leg between gateway and server
}

// tlsCases returns the ways in which a gateway carries FTPS.
func tlsCases(setup Setup) []tlsCase {
	return []tlsCase{
		{
			name: "passed through", title: "Passed through: TLS from end to end",
			text: `     The gateway cannot rewrite an encrypted 227, so the client sends EPSV. It
     can connect to the server's passive ports as long as its session lasts.
`,
			flags:  []string{"--server-ports", PassivePorts},
			server: TLSOffered, certName: hostOf(setup.server), clientLegTLS: true, serverLegTLS: true,
			mode: ftpclient.EPSV, modes: []ftpclient.Mode{ftpclient.EPSV},
		},
		{
			name: "terminated", title: "Terminated: the gateway speaks TLS with the client",
			text: `     The server has no TLS. The client verifies the gateway's certificate.
`,
			flags: []string{"--tls-client", "required", "--tls-cert", GatewayFile, "--tls-key",
				GatewayKeyFile},
			server: TLSOff, certName: hostOf(setup.gateway), clientLegTLS: true,
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT},
		},
		{
			name: "originated", title: "Originated: the gateway speaks TLS with the server",
			text: `     The client has no TLS, and the server requires it. The gateway verifies the
     server's certificate.
`,
			flags:  []string{"--tls-server", "required", "--tls-ca", AuthorityFile},
			server: TLSRequired, serverLegTLS: true,
			// No PORT: the server's library leaves data connections of active mode in clear.
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV},
		},
	}
}

// tlsRow is a row of the table of act 4.
type tlsRow struct{ name, client, server, download, upload string }

// runWithTLS is act 4: the four cases, each with a gateway and a server of its own.
func (s *scenario) runWithTLS(ctx context.Context) error {
	refused, err := s.showRefused(ctx)
	rows, errs := []tlsRow{refused}, []error{err}
	for _, tc := range tlsCases(s.setup) {
		if ctx.Err() != nil {
			break
		}
		r, err := s.showTLSCase(ctx, tc)
		if err != nil {
			err = fmt.Errorf("%s: %w", tc.name, err)
		}
		rows, errs = append(rows, r), append(errs, err)
	}
	s.ftps = tlsTable(rows)
	return errors.Join(errs...)
}

// tlsTable returns the results of the four cases, in 80 columns.
func tlsTable(rows []tlsRow) string {
	const format = "%-15s %-18s %-18s %-16s %s\n"
	var b strings.Builder
	printHeader(&b, format, "FTPS", "client's leg", "server's leg", "download", "upload")
	for _, r := range rows {
		fmt.Fprintf(&b, format, r.name, orDash(r.client), orDash(r.server), orDash(r.download),
			orDash(r.upload))
	}
	return b.String()
}

// withServer starts a server, and returns a copy of s that uses it and has a table of its own.
func (s *scenario) withServer(ctx context.Context, mode TLSMode) (*scenario, Server, error) {
	server, err := s.testbed.StartServer(ctx, s.setup.tlsServer, mode)
	if err != nil {
		return nil, server, ftpclient.Because(ctx, err)
	}
	own := *s
	own.rows, own.serverLog, own.tlsRequired = nil, server.Log, mode == TLSRequired
	own.setup.server = server.Address
	return &own, server, nil
}

// showRefused shows a forward without any setting for TLS: the gateway answers 534, and explains the session
// that failed.
func (s *scenario) showRefused(ctx context.Context) (r tlsRow, err error) {
	s.printHeading("Refused: a forward without TLS settings, and a server that offers TLS")
	r = tlsRow{name: "refused", client: failedCell}
	own, server, err := s.withServer(ctx, TLSOffered)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.startGateway(ctx, []string{s.setup.gateway, server.Address}, remedyTLS)
	if err != nil {
		return r, err
	}
	opts := sessionOptions{tracking: "proxy", mode: "AUTH refused", address: s.setup.gateway, noLogin: true}
	err = own.runSession(ctx, opts, own.checkFEAT, own.checkAUTHRefused)
	if err == nil {
		err = errors.Join(own.checkServerOffersTLS(ctx), s.explain(ctx, gateway))
	}
	if err = errors.Join(err, gateway.Stop()); err == nil {
		r.client = "534, expected"
	}
	return r, err
}

const remedyTLS = "It needs what act 1 needs."

// checkFEAT checks that the answer to FEAT does not list AUTH: a feature that does not work must not be
// listed (RFC 2389 section 3.2), even though the server has it.
func (s *scenario) checkFEAT(ctx context.Context, c *session) error {
	reply, err := c.Ask(ctx, 2, "FEAT", "")
	if err != nil {
		return err
	}
	if strings.Contains(reply.Text(), "AUTH") {
		return fmt.Errorf("FEAT: the answer is %q; want no AUTH in it", reply.Text())
	}
	return nil
}

// checkAUTHRefused sends AUTH TLS nevertheless, and gives up after the 534.
func (s *scenario) checkAUTHRefused(ctx context.Context, c *session) error {
	reply, err := c.Ask(ctx, 5, "AUTH", "TLS")
	if err == nil && reply.Code != 534 {
		err = fmt.Errorf("AUTH: the answer is %d; want 534", reply.Code)
	}
	if err == nil {
		c.transcript.Note("The client gives up, and has sent no password")
	}
	return err
}

// checkServerOffersTLS checks that the server did list AUTH in its answer to FEAT: the gateway removed it.
func (s *scenario) checkServerOffersTLS(ctx context.Context) error {
	events, err := s.serverLog.Session(ctx)
	if err != nil {
		return err
	}
	for _, ev := range events {
		features := ev.Kind == sessionlog.Sent && strings.HasPrefix(ev.Text, "211 ")
		if features && strings.Contains(ev.Text, "AUTH TLS") {
			fmt.Fprint(s.out, "     The server's own answer to FEAT lists AUTH TLS.\n")
			return nil
		}
	}
	return errors.New("FEAT: the server itself did not list AUTH TLS")
}

// explain keeps for the end what `ftpgate explain` says of the gateway's first session. It must name a
// remedy.
func (s *scenario) explain(ctx context.Context, gateway Gateway) error {
	text, err := gateway.Explain(ctx, "1")
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	if !strings.Contains(text, "\nremedy ") {
		return fmt.Errorf("explain: got %q; want a remedy in it", text)
	}
	s.explained = text
	return nil
}

// showTLSCase prints a session with a wiretap on both sides, and then transfers and compares files.
func (s *scenario) showTLSCase(ctx context.Context, tc tlsCase) (r tlsRow, err error) {
	s.printHeading(tc.title)
	fmt.Fprint(s.out, tc.text)
	r = tlsRow{name: tc.name, client: failedCell}
	own, server, err := s.withServer(ctx, tc.server)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.startGateway(ctx, append(slices.Clone(tc.flags), s.setup.gateway, server.Address),
		remedyTLS)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, gateway.Stop()) }()
	client, serverLeg, err := own.captureSession(ctx, tc)
	r.client, r.server = client.cell(), serverLeg.cell()
	if err != nil {
		return r, err
	}
	opts := sessionOptions{tracking: tc.name, address: s.setup.gateway, certName: tc.certName}
	err = own.runModes(ctx, opts, tc.modes...)
	last := own.rows[len(own.rows)-1]
	r.download, r.upload = last.download, last.upload
	return r, err
}

// captureSession runs the session that is printed, and returns what the wiretaps saw on both sides of the
// gateway.
func (s *scenario) captureSession(ctx context.Context, tc tlsCase) (client, server leg, err error) {
	stopTap, err := s.testbed.Tap()
	if err != nil {
		return client, server, fmt.Errorf("wiretap: %w", err)
	}
	var handshakes []tls.ConnectionState
	saveHandshakes := func(_ context.Context, c *session) error {
		handshakes = c.Handshakes()
		return nil
	}
	opts := sessionOptions{
		tracking: tc.name, mode: string(tc.mode), address: s.setup.gateway, certName: tc.certName,
	}
	err = s.runSession(ctx, opts, s.list(tc.mode), s.retrieveReadme(tc.mode), saveHandshakes)
	atClient, atServer, tapErr := stopTap()
	if err = errors.Join(err, tapErr); err != nil {
		return client, server, err
	}
	events, err := s.serverLog.Session(ctx)
	if err != nil {
		return client, server, err
	}
	client, server = newLeg(atClient), newLeg(atServer)
	for _, state := range handshakes {
		client.addHandshake(tls.VersionName(state.Version), state.DidResume)
	}
	for _, ev := range events {
		if ev.Kind == sessionlog.Encrypted {
			version, resumed := strings.CutSuffix(ev.Text, sessionlog.Resumed)
			server.addHandshake(version, resumed)
		}
	}
	fmt.Fprintf(s.out, "     client's leg: %s\n     server's leg: %s\n", client, server)
	if err := client.check(tc.clientLegTLS); err != nil {
		return client, server, fmt.Errorf("client's leg: %w", err)
	}
	if err := server.check(tc.serverLegTLS); err != nil {
		return client, server, fmt.Errorf("server's leg: %w", err)
	}
	return client, server, nil
}

// retrieveReadme gets the small file, which a wiretap recognizes if it is in clear.
func (s *scenario) retrieveReadme(m ftpclient.Mode) step {
	return func(ctx context.Context, c *session) error {
		buf := make([]byte, len(readmeText))
		if _, err := c.Retrieve(ctx, m, readmeName, buf); err != nil {
			return err
		}
		if string(buf) != readmeText {
			return fmt.Errorf("%s: got %q; want %q", readmeName, buf, readmeText)
		}
		return nil
	}
}

// leg is what the two ends and a wiretap saw of a session on one side of the gateway.
type leg struct {
	version              string // TLS version of the control connection; empty: in clear
	data, resumed        int    // data connections with TLS, and how many of them resumed the session
	sawGreeting          bool   // the tap saw the greeting, which is always in clear
	sawPassword, sawFile bool
}

func newLeg(wire []byte) leg {
	return leg{
		sawGreeting: bytes.Contains(wire, []byte("220 "+ftpserver.Welcome)),
		sawPassword: bytes.Contains(wire, []byte("PASS "+ftpserver.Password)),
		sawFile:     bytes.Contains(wire, []byte(readmeText)),
	}
}

// addHandshake counts a TLS handshake. The first one is the control connection's.
func (l *leg) addHandshake(version string, resumed bool) {
	if l.version == "" {
		l.version = version
		return
	}
	l.data++
	if resumed {
		l.resumed++
	}
}

// cell returns the text of a table cell.
func (l leg) cell() string {
	switch {
	case l.version == "" && !l.sawGreeting:
		return failedCell
	case l.version == "":
		return "in clear"
	case l.data == 0:
		return l.version + ", data in clear"
	case l.resumed < l.data:
		return l.version + ", not resumed"
	}
	return l.version + ", resumed"
}

// String describes what the two ends and the tap saw.
func (l leg) String() string {
	read := "neither password nor file"
	switch {
	case l.sawPassword && l.sawFile:
		read = "password and file"
	case l.sawPassword:
		read = "the password"
	case l.sawFile:
		read = "the file"
	}
	return fmt.Sprintf("%s; a tap reads %s", l.cell(), read)
}

// dataConnections is how many data connections the captured session has.
const dataConnections = 2

// check returns an error if the leg is not encrypted as it should be, or the tap missed the session.
func (l leg) check(encrypted bool) error {
	switch {
	case !l.sawGreeting:
		return errors.New("the wiretap did not see the greeting")
	case !encrypted && l.version != "":
		return fmt.Errorf("%s; want none", l.version)
	case !encrypted && !(l.sawPassword && l.sawFile):
		return errors.New("the wiretap did not read what is in clear")
	case encrypted && (l.version == "" || l.data != dataConnections || l.resumed != dataConnections):
		return fmt.Errorf("%s, with %d encrypted data connections, %d of them resumed; want TLS and %d",
			orDash(l.version), l.data, l.resumed, dataConnections)
	case encrypted && (l.sawPassword || l.sawFile):
		return errors.New("the wiretap read what should be encrypted")
	}
	return nil
}
