package ftps

import (
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// TestOldDevice: a real client that knows TLS 1.0 alone is served where that is spelled out, with a warning
// at the start, and refused everywhere else.
func TestOldDevice(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	a := harness.NewAuthority(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	old := peers.CurlWithTLS(t, peers.ClientTLS{CAFile: a.CAFile, Version: "1.0"})
	start := func(more ...string) *harness.Program {
		flags := append(append([]string{"forward"}, a.ClientTLSFlags()...), "--tls-session-reuse=false")
		return harness.Start(t, l.Gateway(), append(append(flags, more...), harness.Gateway4,
			harness.Server4)...)
	}

	program := start()
	program.AwaitReady()
	if o := peers.RunClient(t, l.Client(), old, s, peers.EPSV, harness.Forward4.Listen); o.Err == nil {
		t.Errorf("TLS 1.0 got in by default:\n%s", harness.LastLines(o.Transcript))
	}
	program.AwaitLog("the other side knows only versions of TLS that are too old", 1)
	program.Interrupt()

	program = start("--tls-client-min-version", "1.0")
	program.AwaitReady()
	peers.CheckClient(t, l, old, s, peers.EPSV, harness.Forward4)
	harness.WantContains(t, program.Log(), "clients may use TLS 1.0 and ciphers that are not safe",
		`tls="TLS 1.0"`)
}
