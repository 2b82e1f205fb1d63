package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/demo/sessionlog"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
	"ftpgate/internal/try/testca"
)

// The arguments with which the tests start their own binary in place of ftpgate.
const (
	asServer  = "as-server"
	asGateway = "as-gateway"
)

// TestMain also runs the programs that the testbed starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asServer:
			var e TLSOptions
			flags := flag.NewFlagSet(asServer, flag.ExitOnError)
			flags.StringVar(&e.Cert, "tls-cert", "", "")
			flags.StringVar(&e.Key, "tls-key", "", "")
			flags.BoolVar(&e.Required, "tls-only", false, "")
			_ = flags.Parse(os.Args[2:]) // exits on error
			if err := Serve(context.Background(), flags.Arg(0), e, os.Stdin, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case asGateway:
			os.Exit(gateway(os.Args[2:]))
		}
	}
	labtest.Main(m)
}

// gateway behaves like `ftpgate forward` towards the process that starts it.
func gateway(args []string) int {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	switch args[0] {
	case "--data": // accepts connections and sends nothing
		if l, err := net.Listen("tcp", args[2]); err == nil {
			defer l.Close()
		}
	case "refuses":
		fmt.Fprintln(os.Stderr, `level=ERROR msg="no helper" remedy="modprobe nf_conntrack_ftp"`)
		return 1
	case "fails":
		fmt.Fprintln(os.Stderr, "level=INFO msg=ready")
		<-interrupted
		fmt.Fprintln(os.Stderr, "level=ERROR msg=stuck")
		return 3
	}
	fmt.Fprintln(os.Stderr, "level=INFO msg=ready")
	<-interrupted
	return 0
}

func fakeOptions() Options {
	return Options{ServeArgs: []string{asServer}, ForwardArgs: []string{asGateway}}
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	return labTestbed(labtest.New(t), fakeOptions(), "")
}

func TestStartGateway(t *testing.T) {
	for _, tt := range []struct{ mode, start, stop string }{
		{"works", "", ""},
		{
			"refuses", "the gateway cannot start (exit status 1):\n" +
				`  level=ERROR msg="no helper" remedy="modprobe nf_conntrack_ftp"`, "",
		},
		{"fails", "", "stop the gateway: exit status 3:\n  level=INFO msg=ready\n  level=ERROR msg=stuck"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			gateway, err := newTestbed(t).StartGateway(testContext(t), []string{tt.mode})
			checkText(t, "start", err, tt.start)
			if err == nil {
				checkText(t, "stop", gateway.Stop(), tt.stop)
			}
		})
	}
}

func checkText(t *testing.T, what string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s: got %q; want %q", what, got, want)
	}
}

// TestStageServer: the server is a process in the server's namespace, with its data connections, and with
// TLS if it is asked for.
func TestStartServer(t *testing.T) {
	l := labtest.New(t)
	err := withCertificates(func(a *testca.Authority, dir string) error {
		bed := labTestbed(l, fakeOptions(), dir)
		for _, mode := range []scenario.TLSMode{scenario.TLSOff, scenario.TLSOffered, scenario.TLSRequired} {
			t.Run("encryption "+string(mode), func(t *testing.T) {
				address := netip.AddrPortFrom(lab.ServerAddr4, 21).String()
				server, err := bed.StartServer(testContext(t), address, mode)
				if err != nil || server.Address != address {
					t.Fatalf("got address %q, error %v; want %s", server.Address, err, address)
				}
				var config *tls.Config
				if mode != scenario.TLSOff {
					config = a.Client(lab.ServerAddr4.String())
				}
				want := scenario.Files()["/README"].Content()
				got, err := retrieveReadme(testContext(t), bed.ServerHost(), address, config, len(want))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
				_, err = retrieveReadme(testContext(t), bed.ServerHost(), address, nil, len(want))
				if refused, want := err != nil, mode == scenario.TLSRequired; refused != want {
					t.Errorf("in clear: got %v; want it refused: %v", err, want)
				}
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// retrieveReadme gets README, which has size bytes, over TLS if config is not nil.
func retrieveReadme(
	ctx context.Context, h scenario.Host, address string, config *tls.Config, size int,
) ([]byte, error) {
	c := &ftpclient.Client{Host: h, Watch: &sessionlog.Transcript{Quiet: true}}
	if err := c.Open(ctx, address); err != nil {
		return nil, err
	}
	defer c.Close()
	if config != nil {
		if err := c.Encrypt(ctx, config); err != nil {
			return nil, err
		}
	}
	buf := make([]byte, size)
	if err := c.Login(ctx, ftpserver.User, ftpserver.Password); err != nil {
		return nil, err
	}
	if _, err := c.Retrieve(ctx, ftpclient.PASV, "README", buf); err != nil {
		return nil, err
	}
	return buf, c.Quit(ctx)
}

// testContext ends a test that hangs.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestStageServerRefused: a server that cannot listen says why.
func TestStartServerFails(t *testing.T) {
	_, err := newTestbed(t).StartServer(testContext(t), "192.0.2.1:21", scenario.TLSOff)
	for _, want := range []string{"the server has ended", "cannot assign requested address"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
	}
}
