package peers

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// HAProxy is a running balancer.
type HAProxy struct {
	t      *testing.T
	socket string // of its statistics
}

// StartHAProxy runs HAProxy on a host with these frontends and backends.
func StartHAProxy(t *testing.T, h *lab.Host, config string) HAProxy {
	t.Helper()
	program := findProgram(t, "haproxy")
	dir, err := os.MkdirTemp("", "haproxy") // a short path: that of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := HAProxy{t, filepath.Join(dir, "stats")}
	file := harness.WriteFile(t, "haproxy.cfg", fmt.Sprintf(`global
	stats socket %s mode 600 level admin
defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
%s`, b.socket, config))
	ended := startProgram(t, h, exec.Command(program, "-db", "-f", file))
	ready := func(context.Context) error {
		_, err := b.ask("show info")
		return err
	}
	if err := awaitReady(t.Context(), ready, ended); err != nil {
		t.Fatalf("haproxy: %v", err)
	}
	return b
}

// Ask returns HAProxy's answer to a command.
func (b HAProxy) Ask(command string) string {
	b.t.Helper()
	answer, err := b.ask(command)
	if err != nil {
		b.t.Fatalf("haproxy: %s: %v", command, err)
	}
	return answer
}

func (b HAProxy) ask(command string) (string, error) {
	c, err := net.Dial("unix", b.socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// ProxyProtocolServer runs pyftpdlib with a header before each control connection, and with data also before
// each passive data connection. The file has a line for each header.
func ProxyProtocolServer(t *testing.T, h *lab.Host, at netip.AddrPort, data bool) (s Server, headers string) {
	t.Helper()
	python := pythonWith(t, "pyftpdlib")
	s = newServer(t)
	script := filepath.Join("..", "peers", "testdata", "proxy_protocol_server.py")
	arguments := []string{script, "--interface", at.Addr().String(), "--port", fmt.Sprint(at.Port()),
		"--directory", s.Root, "--username", Account, "--password", AccountPassword}
	if data {
		arguments = append(arguments, "--data")
	}
	headers = filepath.Join(t.TempDir(), "headers")
	output, err := os.Create(headers)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd := exec.Command(python, arguments...)
	cmd.Stdout = output
	ended := startProgram(t, h, cmd)
	greets := func(ctx context.Context) error { return greet(ctx, h, at, false, "PROXY UNKNOWN\r\n") }
	if err := awaitReady(t.Context(), greets, ended); err != nil {
		t.Fatalf("pyftpdlib: %v", err)
	}
	return s, headers
}
