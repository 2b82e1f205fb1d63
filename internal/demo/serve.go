package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"goftp.io/server/v2"

	"ftpgate/internal/ftp"
)

// The account of the embedded server.
const (
	user     = "demo"
	password = "lab-only"
)

// passivePorts is where the embedded server opens data connections, and what act 1 publishes.
const passivePorts = "50000-50100"

// kind is what an event of the server is about.
type kind string

const (
	ready    kind = "ready"    // connections are taken, at this address
	received kind = "received" // a command from the client, as it came in
	sent     kind = "sent"     // a reply to the client, as it went out
)

// event is one line of JSON on the server's standard output: how the other processes see what
// went through this end of the wire.
type event struct {
	Kind kind   `json:"kind"`
	Text string `json:"text,omitempty"`
}

// Serve is the FTP server of the story, as a process of its own: it opens passive sockets in
// goroutines of a library, and only a process has all of them in one network namespace. It
// listens at address, writes its events to out, and ends when in does or ctx is done. With port 0 it
// takes any port that is free, for data connections too.
func Serve(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process at the latest: nobody can interrupt a read of a pipe
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	ports := passivePorts
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		ports = ""
	}
	return serve(ctx, l, newEvents(out), config{
		passivePorts: ports,
		files: map[string][]byte{
			"/" + downloadName: content(downloadSeed, downloadSize),
			"/" + readmeName:   []byte(readmeText),
		},
	})
}

// config is what differs between the story's server and a test's.
type config struct {
	publicIP     string // what a 227 names; empty: the address that the client came to
	passivePorts string // empty: any
	files        map[string][]byte
}

// serve runs the server on l until ctx is done, and closes l.
func serve(ctx context.Context, l net.Listener, log *events, c config) error {
	srv, err := server.NewServer(&server.Options{
		Driver:         &memory{files: c.files},
		Auth:           &server.SimpleAuth{Name: user, Password: password},
		Perm:           perm{server.NewSimplePerm("ftp", "ftp")},
		Logger:         log,
		WelcomeMessage: "the server of the lab",
		PublicIP:       c.publicIP,
		PassivePorts:   c.passivePorts,
	})
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	log.write(event{ready, l.Addr().String()})
	if err := srv.Serve(l); err != nil && ctx.Err() == nil && !errors.Is(err, server.ErrServerClosed) {
		return fmt.Errorf("demo: serve: %w", err)
	}
	return nil
}

// events writes the dialogue as the server sees it. It implements server.Logger.
type events struct {
	mu  sync.Mutex // guards enc: sessions log at the same time
	enc *json.Encoder
}

func newEvents(out io.Writer) *events { return &events{enc: json.NewEncoder(out)} }

func (e *events) write(ev event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.enc.Encode(ev) // whoever would read it is gone, and so will be this process
}

// Print implements server.Logger: the library's own remarks are of no use to the story.
func (e *events) Print(string, any) {}

// Printf implements server.Logger.
func (e *events) Printf(string, string, ...any) {}

// PrintCommand implements server.Logger. A password does not leave the server.
func (e *events) PrintCommand(_, verb, arg string) {
	c := ftp.Command{Verb: strings.ToUpper(verb)}
	if arg != "" {
		c.Arg = []byte(arg)
	}
	e.write(event{received, c.String()})
}

// PrintResponse implements server.Logger.
func (e *events) PrintResponse(_ string, code int, text string) {
	e.write(event{sent, fmt.Sprintf("%d %s", code, text)})
}
