package scenario

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// tlsCase is how a gateway can carry FTPS, and what is to be seen of it.
type tlsCase struct {
	name, title, text string
	flags             []string
	server            TLSMode
	mode              ftpclient.Mode   // of the session that is shown
	modes             []ftpclient.Mode // of those that follow
	certName          string           // whose certificate the client sees; empty: it knows no TLS
	clientLegTLS      bool             // the leg between client and gateway is encrypted
	serverLegTLS      bool             // and the one between gateway and server
}

// tlsCases are those that carry it at all.
func tlsCases(c Setup) []tlsCase {
	return []tlsCase{
		{
			name: "passed through", title: "Passed through: TLS from end to end",
			text: `     Nobody reads the 227, which would name the server's own address: the client
     sends EPSV. It may reach the server's passive ports as long as it is there.
`,
			flags:  []string{"--server-ports", PassivePorts},
			server: TLSOffered, certName: hostOf(c.server), clientLegTLS: true, serverLegTLS: true,
			mode: ftpclient.EPSV, modes: []ftpclient.Mode{ftpclient.EPSV},
		},
		{
			name: "terminated", title: "Terminated: the gateway speaks TLS with the client",
			text: `     The server knows no TLS. The client verifies the gateway's certificate.
`,
			flags:  []string{"--tls-client", "required", "--tls-cert", GatewayFile, "--tls-key", GatewayKeyFile},
			server: TLSOff, certName: hostOf(c.gateway), clientLegTLS: true,
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT},
		},
		{
			name: "originated", title: "Originated: the gateway speaks TLS with the server",
			text: `     The client knows no TLS, and the server takes nothing else. The gateway
     verifies the server's certificate.
`,
			flags:  []string{"--tls-server", "required", "--tls-ca", AuthorityFile},
			server: TLSRequired, serverLegTLS: true,
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV}, // its library leaves active mode in clear
		},
	}
}

// tlsRow is a line of the table of FTPS.
type tlsRow struct{ name, client, server, download, upload string }

// runWithTLS is act 4: the four cases, each with a gateway and a server of its own.
func (s *scenario) runWithTLS(ctx context.Context) error {
	line, err := s.showRefused(ctx)
	table, errs := []tlsRow{line}, []error{err}
	for _, w := range tlsCases(s.setup) {
		if ctx.Err() != nil {
			break
		}
		line, err := s.showTLSCase(ctx, w)
		if err != nil {
			err = fmt.Errorf("%s: %w", w.name, err)
		}
		table, errs = append(table, line), append(errs, err)
	}
	const format = "%-15s %-18s %-18s %-16s %s\n"
	fmt.Fprint(s.out, "\n")
	printHeader(s.out, format, "FTPS", "client's leg", "server's leg", "download", "upload")
	for _, l := range table {
		fmt.Fprintf(s.out, format, l.name, orDash(l.client), orDash(l.server), orDash(l.download), orDash(l.upload))
	}
	return errors.Join(errs...)
}

// withServer is the story with a server of its own, and a table that nobody prints.
func (s *scenario) withServer(ctx context.Context, e TLSMode) (*scenario, Server, error) {
	server, err := s.testbed.StartServer(ctx, s.setup.tlsServer, e)
	if err != nil {
		return nil, server, ftpclient.Because(ctx, err)
	}
	own := *s
	own.rows, own.serverLog, own.tlsRequired = nil, server.Log, e == TLSRequired
	own.setup.server = server.Address
	return &own, server, nil
}

// showRefused shows a forward that says nothing of TLS: the client is told, and the operator.
func (s *scenario) showRefused(ctx context.Context) (line tlsRow, err error) {
	s.printHeading("Refused: a forward that says nothing of TLS, before a server that has it")
	line = tlsRow{name: "refused", client: failedCell}
	own, server, err := s.withServer(ctx, TLSOffered)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.startGateway(ctx, []string{s.setup.gateway, server.Address}, remedyTLS)
	if err != nil {
		return line, err
	}
	err = own.runSession(ctx, sessionOptions{tracking: "proxy", mode: "AUTH refused", address: s.setup.gateway, noLogin: true}, own.checkFEAT, own.checkAUTHRefused)
	if err = errors.Join(err, gateway.Stop()); err == nil {
		err = errors.Join(own.checkServerOffersTLS(ctx), own.printRemedy(gateway.Log()))
	}
	if err == nil {
		line.client = "534, as told"
	}
	return line, err
}

const remedyTLS = "It needs what act 1 needs."

// checkFEAT asks what there is: what does not work through the gateway must not be listed (RFC 2389
// section 3.2), though the server has it.
func (s *scenario) checkFEAT(ctx context.Context, c *session) error {
	r, err := c.Ask(ctx, 2, "FEAT", "")
	if err != nil {
		return err
	}
	if strings.Contains(r.Text(), "AUTH") {
		return fmt.Errorf("FEAT: the answer is %q; want no AUTH in it", r.Text())
	}
	return nil
}

// checkAUTHRefused wants TLS all the same, and gives up.
func (s *scenario) checkAUTHRefused(ctx context.Context, c *session) error {
	r, err := c.Ask(ctx, 5, "AUTH", "TLS")
	if err == nil && r.Code != 534 {
		err = fmt.Errorf("AUTH: the answer is %d; want 534", r.Code)
	}
	if err == nil {
		c.transcript.Note("The client gives up, and has said no password")
	}
	return err
}

// checkServerOffersTLS looks whether the server had AUTH in its answer to FEAT: else nobody has left it out.
func (s *scenario) checkServerOffersTLS(ctx context.Context) error {
	events, err := s.serverLog.Session(ctx)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if ev.Kind == sessionlog.Sent && strings.HasPrefix(ev.Text, "211 ") && strings.Contains(ev.Text, "AUTH TLS") {
			fmt.Fprint(s.out, "     The server's own answer to FEAT has AUTH TLS in it.\n")
			return nil
		}
	}
	return errors.New("FEAT: the server has not said AUTH TLS itself")
}

var remedyInLog = regexp.MustCompile(` remedy=("(?:[^"\\]|\\.)*")`)

// printRemedy shows what the gateway's log tells to do, which must be both that can be done.
func (s *scenario) printRemedy(log string) error {
	for _, found := range remedyInLog.FindAllStringSubmatch(log, -1) {
		text, err := strconv.Unquote(found[1])
		if err == nil && strings.Contains(text, "server_ports") && strings.Contains(text, "forward.tls") {
			fmt.Fprintf(s.out, "     The gateway's log says what to do:\n%s", foldText(sessionlog.Printable(text), "       "))
			return nil
		}
	}
	return fmt.Errorf("the log names no remedy with server_ports and forward.tls:%s", log)
}

// showTLSCase shows a session, with a wiretap on both sides, and then files that are compared.
func (s *scenario) showTLSCase(ctx context.Context, w tlsCase) (line tlsRow, err error) {
	s.printHeading(w.title)
	fmt.Fprint(s.out, w.text)
	line = tlsRow{name: w.name, client: failedCell}
	own, server, err := s.withServer(ctx, w.server)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.startGateway(ctx, append(slices.Clone(w.flags), s.setup.gateway, server.Address), remedyTLS)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, gateway.Stop()) }()
	client, far, err := own.captureSession(ctx, w)
	line.client, line.server = client.cell(), far.cell()
	if err != nil {
		return line, err
	}
	err = own.runModes(ctx, sessionOptions{tracking: w.name, address: s.setup.gateway, certName: w.certName}, w.modes...)
	last := own.rows[len(own.rows)-1]
	line.download, line.upload = last.download, last.upload
	return line, err
}

// captureSession is the session that is shown, and what could be seen of it on both sides of the gateway.
func (s *scenario) captureSession(ctx context.Context, w tlsCase) (client, server leg, err error) {
	end, err := s.testbed.Tap()
	if err != nil {
		return client, server, fmt.Errorf("wiretap: %w", err)
	}
	var handshakes []tls.ConnectionState
	look := func(_ context.Context, c *session) error {
		handshakes = c.Handshakes()
		return nil
	}
	v := sessionOptions{tracking: w.name, mode: string(w.mode), address: s.setup.gateway, certName: w.certName}
	err = s.runSession(ctx, v, s.list(w.mode), s.retrieveReadme(w.mode), look)
	atClient, atServer, tapErr := end()
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
	if err := client.check(w.clientLegTLS); err != nil {
		return client, server, fmt.Errorf("client's leg: %w", err)
	}
	if err := server.check(w.serverLegTLS); err != nil {
		return client, server, fmt.Errorf("server's leg: %w", err)
	}
	return client, server, nil
}

// retrieveReadme gets the small file, which a wiretap would know again.
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

// leg is what was seen of a session on one side of the gateway: by those who speak there, and by a wiretap.
type leg struct {
	version              string // the version of TLS there; empty: in clear
	data, resumed        int    // data connections with TLS, and those that resumed the session
	sawGreeting          bool   // the tap has seen the greeting, which is always in clear
	sawPassword, sawFile bool
}

func newLeg(wire []byte) leg {
	return leg{
		sawGreeting: bytes.Contains(wire, []byte("220 "+ftpserver.Welcome)),
		sawPassword: bytes.Contains(wire, []byte("PASS "+ftpserver.Password)),
		sawFile:     bytes.Contains(wire, []byte(readmeText)),
	}
}

// addHandshake counts one: the first is the control connection's.
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

// cell is what the table says of the leg.
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

// String tells what was seen.
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

// dataConnections is how many data connections the session that is shown has.
const dataConnections = 2

// check says what is not as told of a leg.
func (l leg) check(encrypted bool) error {
	switch {
	case !l.sawGreeting:
		return errors.New("the wiretap has not seen the greeting")
	case !encrypted && l.version != "":
		return fmt.Errorf("%s; want none", l.version)
	case !encrypted && !(l.sawPassword && l.sawFile):
		return errors.New("the wiretap has not read what is in clear")
	case encrypted && (l.version == "" || l.data != dataConnections || l.resumed != dataConnections):
		return fmt.Errorf("%s, with %d encrypted data connections, %d of them resumed; want TLS and %d", orDash(l.version), l.data, l.resumed, dataConnections)
	case encrypted && (l.sawPassword || l.sawFile):
		return errors.New("the wiretap has read what should be encrypted")
	}
	return nil
}
