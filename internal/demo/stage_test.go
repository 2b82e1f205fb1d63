package demo

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/lab"
	"ftpgate/internal/lab/labtest"
)

// The words with which the tests start their own binary in place of ftpgate.
const (
	asServer  = "as-server"
	asGateway = "as-gateway"
)

// TestMain is the programs of the story too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asServer:
			if err := Serve(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
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

// gateway is a process that behaves like `ftpgate forward` as its starter sees it.
func gateway(args []string) int {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	switch args[0] {
	case "--data": // takes connections, and says nothing to anybody
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
	return Options{Serve: []string{asServer}, Forward: []string{asGateway}}
}

func newStage(t *testing.T) *processStage {
	t.Helper()
	return inLab(labtest.New(t), fakeOptions())
}

func TestStageGateway(t *testing.T) {
	for _, tt := range []struct{ how, start, stop string }{
		{"works", "", ""},
		{"refuses", "the gateway cannot start (exit status 1):\n  level=ERROR msg=\"no helper\" remedy=\"modprobe nf_conntrack_ftp\"", ""},
		{"fails", "", "stop the gateway: exit status 3:\n  level=INFO msg=ready\n  level=ERROR msg=stuck"},
	} {
		t.Run(tt.how, func(t *testing.T) {
			stop, err := newStage(t).startGateway(testContext(t), []string{tt.how})
			checkText(t, "start", err, tt.start)
			if err == nil {
				checkText(t, "stop", stop(), tt.stop)
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

// TestStageServer: the server is a process in the server's namespace, with its data connections.
func TestStageServer(t *testing.T) {
	ctx, st := testContext(t), newStage(t)
	address := netip.AddrPortFrom(lab.ServerAddr4, 21).String()
	w, at, err := st.startServer(ctx, address)
	if err != nil || at != address {
		t.Fatalf("got it at %q, error %v; want it at %s", at, err, address)
	}
	s := &story{stage: st, cast: cast{server: address, upload: []byte(readmeText)}}
	if got, err := s.readBack(ctx, readmeName, w); err != nil || string(got) != readmeText {
		t.Errorf("got %q, %v; want %q", got, err, readmeText)
	}
	if err := st.endServer(); err != nil {
		t.Error(err)
	}
	if err := st.serving.err; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// TestStageServerRefused: a server that cannot listen says why.
func TestStageServerRefused(t *testing.T) {
	st := newStage(t)
	_, _, err := st.startServer(testContext(t), "192.0.2.1:21")
	if err == nil || !strings.Contains(err.Error(), "the server has ended") || !strings.Contains(err.Error(), "cannot assign requested address") {
		t.Errorf("got %v; want the server's own words", err)
	}
	if err := st.endServer(); err != nil {
		t.Error(err)
	}
}
