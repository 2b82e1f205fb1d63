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

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/transcript"
)

// way is how a gateway can carry FTPS, and what is to be seen of it.
type way struct {
	name, title, text string
	flags             []string
	server            Encryption
	mode              ftpclient.Mode   // of the session that is shown
	modes             []ftpclient.Mode // of those that follow
	verify            string           // whose certificate the client sees; empty: it knows no TLS
	atClient          bool             // the leg between client and gateway is encrypted
	atServer          bool             // and the one between gateway and server
}

// ways are those that carry it at all.
func ways(c Cast) []way {
	return []way{
		{
			name: "passed through", title: "Passed through: TLS from end to end",
			text: `     Nobody reads the 227, which would name the server's own address: the client
     sends EPSV. It may reach the server's passive ports as long as it is there.
`,
			flags:  []string{"--server-ports", PassivePorts},
			server: Offered, verify: addressOf(c.server), atClient: true, atServer: true,
			mode: ftpclient.EPSV, modes: []ftpclient.Mode{ftpclient.EPSV},
		},
		{
			name: "terminated", title: "Terminated: the gateway speaks TLS with the client",
			text: `     The server knows no TLS. The client verifies the gateway's certificate.
`,
			flags:  []string{"--tls-client", "required", "--tls-cert", GatewayFile, "--tls-key", GatewayKeyFile},
			server: InClear, verify: addressOf(c.listen), atClient: true,
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT},
		},
		{
			name: "originated", title: "Originated: the gateway speaks TLS with the server",
			text: `     The client knows no TLS, and the server takes nothing else. The gateway
     verifies the server's certificate.
`,
			flags:  []string{"--tls-server", "required", "--tls-ca", AuthorityFile},
			server: Private, atServer: true,
			mode: ftpclient.PASV, modes: []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV}, // its library leaves active mode in clear
		},
	}
}

// secured is a line of the table of FTPS.
type secured struct{ name, client, server, download, upload string }

// withTLS is act 4: the four cases, each with a gateway and a server of its own.
func (s *story) withTLS(ctx context.Context) error {
	line, err := s.refusing(ctx)
	table, errs := []secured{line}, []error{err}
	for _, w := range ways(s.cast) {
		if ctx.Err() != nil {
			break
		}
		line, err := s.carrying(ctx, w)
		if err != nil {
			err = fmt.Errorf("%s: %w", w.name, err)
		}
		table, errs = append(table, line), append(errs, err)
	}
	const format = "%-15s %-18s %-18s %-16s %s\n"
	fmt.Fprint(s.out, "\n")
	heads(s.out, format, "FTPS", "client's leg", "server's leg", "download", "upload")
	for _, l := range table {
		fmt.Fprintf(s.out, format, l.name, orDash(l.client), orDash(l.server), orDash(l.download), orDash(l.upload))
	}
	return errors.Join(errs...)
}

// aside is the story with a server of its own, and a table that nobody prints.
func (s *story) aside(ctx context.Context, e Encryption) (*story, Server, error) {
	server, err := s.stage.StartServer(ctx, s.cast.secure, e)
	if err != nil {
		return nil, server, ftpclient.Because(ctx, err)
	}
	own := *s
	own.table, own.witness, own.private = nil, server.Witness, e == Private
	own.cast.server = server.At
	return &own, server, nil
}

// refusing shows a forward that says nothing of TLS: the client is told, and the operator.
func (s *story) refusing(ctx context.Context) (line secured, err error) {
	s.scene("Refused: a forward that says nothing of TLS, before a server that has it")
	line = secured{name: "refused", client: failedCell}
	own, server, err := s.aside(ctx, Offered)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.publish(ctx, []string{s.cast.listen, server.At}, remedyTLS)
	if err != nil {
		return line, err
	}
	err = own.session(ctx, visit{way: "proxy", how: "AUTH refused", at: s.cast.listen, stranger: true}, own.featuresWithout, own.authRefused)
	if err = errors.Join(err, gateway.Stop()); err == nil {
		err = errors.Join(own.offered(ctx), own.remedies(gateway.Log()))
	}
	if err == nil {
		line.client = "534, as told"
	}
	return line, err
}

const remedyTLS = "It needs what act 1 needs."

// featuresWithout asks what there is: what does not work through the gateway must not be listed (RFC 2389
// section 3.2), though the server has it.
func (s *story) featuresWithout(ctx context.Context, p *performance) error {
	r, err := p.Ask(ctx, 2, "FEAT", "")
	if err != nil {
		return err
	}
	if strings.Contains(r.Text(), "AUTH") {
		return fmt.Errorf("FEAT: the answer is %q; want no AUTH in it", r.Text())
	}
	return nil
}

// authRefused wants TLS all the same, and gives up.
func (s *story) authRefused(ctx context.Context, p *performance) error {
	r, err := p.Ask(ctx, 5, "AUTH", "TLS")
	if err == nil && r.Code != 534 {
		err = fmt.Errorf("AUTH: the answer is %d; want 534", r.Code)
	}
	if err == nil {
		p.script.Note("The client gives up, and has said no password")
	}
	return err
}

// offered looks whether the server had AUTH in its answer to FEAT: else nobody has left it out.
func (s *story) offered(ctx context.Context) error {
	events, err := s.witness.Session(ctx)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if ev.Kind == transcript.Sent && strings.HasPrefix(ev.Text, "211 ") && strings.Contains(ev.Text, "AUTH TLS") {
			fmt.Fprint(s.out, "     The server's own answer to FEAT has AUTH TLS in it.\n")
			return nil
		}
	}
	return errors.New("FEAT: the server has not said AUTH TLS itself")
}

var remedyInLog = regexp.MustCompile(` remedy=("(?:[^"\\]|\\.)*")`)

// remedies shows what the gateway's log tells to do, which must be both that can be done.
func (s *story) remedies(log string) error {
	for _, found := range remedyInLog.FindAllStringSubmatch(log, -1) {
		text, err := strconv.Unquote(found[1])
		if err == nil && strings.Contains(text, "server_ports") && strings.Contains(text, "forward.tls") {
			fmt.Fprintf(s.out, "     The gateway's log says what to do:\n%s", folded(transcript.Printable(text), "       "))
			return nil
		}
	}
	return fmt.Errorf("the log names no remedy with server_ports and forward.tls:%s", log)
}

// carrying shows a session, with a wiretap on both sides, and then files that are compared.
func (s *story) carrying(ctx context.Context, w way) (line secured, err error) {
	s.scene(w.title)
	fmt.Fprint(s.out, w.text)
	line = secured{name: w.name, client: failedCell}
	own, server, err := s.aside(ctx, w.server)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	gateway, err := own.publish(ctx, append(slices.Clone(w.flags), s.cast.listen, server.At), remedyTLS)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, gateway.Stop()) }()
	client, far, err := own.tapped(ctx, w)
	line.client, line.server = client.cell(), far.cell()
	if err != nil {
		return line, err
	}
	err = own.everything(ctx, visit{way: w.name, at: s.cast.listen, verify: w.verify}, w.modes...)
	last := own.table[len(own.table)-1]
	line.download, line.upload = last.download, last.upload
	return line, err
}

// tapped is the session that is shown, and what could be seen of it on both sides of the gateway.
func (s *story) tapped(ctx context.Context, w way) (client, server leg, err error) {
	end, err := s.stage.Tap()
	if err != nil {
		return client, server, fmt.Errorf("wiretap: %w", err)
	}
	var handshakes []tls.ConnectionState
	look := func(_ context.Context, p *performance) error {
		handshakes = p.Handshakes()
		return nil
	}
	v := visit{way: w.name, how: string(w.mode), at: s.cast.listen, verify: w.verify}
	err = s.session(ctx, v, s.listing(w.mode), s.reading(w.mode), look)
	atClient, atServer, tapErr := end()
	if err = errors.Join(err, tapErr); err != nil {
		return client, server, err
	}
	events, err := s.witness.Session(ctx)
	if err != nil {
		return client, server, err
	}
	client, server = newLeg(atClient), newLeg(atServer)
	for _, state := range handshakes {
		client.handshake(tls.VersionName(state.Version), state.DidResume)
	}
	for _, ev := range events {
		if ev.Kind == transcript.Encrypted {
			version, resumed := strings.CutSuffix(ev.Text, transcript.Resumed)
			server.handshake(version, resumed)
		}
	}
	fmt.Fprintf(s.out, "     client's leg: %s\n     server's leg: %s\n", client, server)
	if err := client.fault(w.atClient); err != nil {
		return client, server, fmt.Errorf("client's leg: %w", err)
	}
	if err := server.fault(w.atServer); err != nil {
		return client, server, fmt.Errorf("server's leg: %w", err)
	}
	return client, server, nil
}

// reading gets the small file, which a wiretap would know again.
func (s *story) reading(m ftpclient.Mode) step {
	return func(ctx context.Context, p *performance) error {
		buf := make([]byte, len(readmeText))
		if _, err := p.Retrieve(ctx, m, readmeName, buf); err != nil {
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
	control              string // the version of TLS there; empty: in clear
	data, resumed        int    // data connections with TLS, and those that resumed the session
	alive                bool   // the tap has seen the greeting, which is always in clear
	sawPassword, sawFile bool
}

func newLeg(wire []byte) leg {
	return leg{
		alive:       bytes.Contains(wire, []byte("220 "+ftpserver.Welcome)),
		sawPassword: bytes.Contains(wire, []byte("PASS "+ftpserver.Password)),
		sawFile:     bytes.Contains(wire, []byte(readmeText)),
	}
}

// handshake counts one: the first is the control connection's.
func (l *leg) handshake(version string, resumed bool) {
	if l.control == "" {
		l.control = version
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
	case l.control == "" && !l.alive:
		return failedCell
	case l.control == "":
		return "in clear"
	case l.data == 0:
		return l.control + ", data in clear"
	case l.resumed < l.data:
		return l.control + ", not resumed"
	}
	return l.control + ", resumed"
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

// transfers is how many data connections the session that is shown has.
const transfers = 2

// fault says what is not as told of a leg.
func (l leg) fault(encrypted bool) error {
	switch {
	case !l.alive:
		return errors.New("the wiretap has not seen the greeting")
	case !encrypted && l.control != "":
		return fmt.Errorf("%s; want none", l.control)
	case !encrypted && !(l.sawPassword && l.sawFile):
		return errors.New("the wiretap has not read what is in clear")
	case encrypted && (l.control == "" || l.data != transfers || l.resumed != transfers):
		return fmt.Errorf("%s, with %d encrypted data connections, %d of them resumed; want TLS and %d", orDash(l.control), l.data, l.resumed, transfers)
	case encrypted && (l.sawPassword || l.sawFile):
		return errors.New("the wiretap has read what should be encrypted")
	}
	return nil
}
