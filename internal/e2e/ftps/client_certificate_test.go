package ftps

import (
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
	"ftpgate/internal/try/testca"
)

// Real clients come in with a certificate, and not without one, nor with a revoked one, which a list that is
// replaced names.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	a, devices := harness.NewAuthority(t), harness.NewAuthority(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	good, bad := devices.Issue("scanner-7"), devices.Issue("scanner-8")
	expired := devices.Issue("scanner-9", testca.Expired)
	week := time.Now().Add(7 * 24 * time.Hour)
	crl := harness.WriteFile(t, "crl.pem", string(devices.RevocationList(week, bad)))
	program := harness.Start(t, l.Gateway(), append(append([]string{"forward"}, a.ClientTLSFlags()...),
		"--tls-client-ca", devices.CAFile, "--tls-client-crl", crl, harness.Gateway4, harness.Server4)...)
	program.AwaitReady()

	for name, with := range map[string]peers.TLSClient{"curl": peers.CurlWithTLS, "lftp": peers.LFTPWithTLS} {
		t.Run(name, func(t *testing.T) {
			options := peers.ClientTLS{CAFile: a.CAFile, Certificate: good}
			peers.CheckClient(t, l, with(t, options), s, peers.EPSV, harness.Forward4)
			for what, refused := range map[string]struct {
				pair               harness.KeyPair
				transcript, logged string
			}{
				"revoked": {bad, "421 the client's certificate is revoked",
					"the client's certificate is revoked"},
				"expired": {expired, "alert", "the client's certificate has expired"},
				"none":    {harness.KeyPair{}, "alert", "the client presents no certificate"},
			} {
				before := program.LogCount(refused.logged)
				options.Certificate = refused.pair
				o := peers.RunClient(t, l.Client(), with(t, options), s, peers.EPSV, harness.Forward4.Listen)
				if o.Err == nil || !strings.Contains(strings.ToLower(o.Transcript), refused.transcript) {
					t.Errorf("%s: got %v; want %q\n%s", what, o.Err, refused.transcript,
						harness.LastLines(o.Transcript))
				}
				program.AwaitLog(refused.logged, before+1)
			}
		})
	}

	next := harness.WriteFile(t, "next.pem", string(devices.RevocationList(week, bad, good)))
	if err := os.Rename(next, crl); err != nil {
		t.Fatal(err)
	}
	before := program.LogCount("the client's certificate is revoked")
	curl := peers.CurlWithTLS(t, peers.ClientTLS{CAFile: a.CAFile, Certificate: good})
	harness.Await(t, "the replaced list to count", func() bool {
		return peers.RunClient(t, l.Client(), curl, s, peers.EPSV, harness.Forward4.Listen).Err != nil
	})
	program.AwaitLog("the client's certificate is revoked", before+1)
	harness.WantContains(t, program.Log(), `certificate="CN=scanner-7"`, `certificate="CN=scanner-8"`,
		"remedy=")
}
