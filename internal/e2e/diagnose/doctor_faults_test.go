package diagnose

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// doctorCase is a fault, and the finding that doctor must report.
type doctorCase struct {
	provoke      func(*testing.T, *lab.Lab) []string // returns keys of the forward
	args         []string
	code, level  string
	text, remedy string
}

// onGateway and onServer cause a fault with a shell command. vsftpd runs at the server.
func onGateway(line string, keys ...string) func(*testing.T, *lab.Lab) []string {
	return func(t *testing.T, l *lab.Lab) []string {
		peers.VSFTPD(t, l.Server(), harness.Forward4.Server, peers.PassiveRangeSettings...)
		harness.Shell(t, l.Gateway(), "%s", line)
		return keys
	}
}

func onServer(line string, keys ...string) func(*testing.T, *lab.Lab) []string {
	return func(t *testing.T, l *lab.Lab) []string {
		peers.VSFTPD(t, l.Server(), harness.Forward4.Server, peers.PassiveRangeSettings...)
		harness.Shell(t, l.Server(), "%s", line)
		return keys
	}
}

func serverDown(*testing.T, *lab.Lab) []string { return nil }

func wrongPort(t *testing.T, l *lab.Lab) []string {
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	ssh := harness.Listen(t, l.Server(), "203.0.113.21:22")
	go func() {
		for {
			c, err := ssh.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}()
	return []string{`server = "203.0.113.21:22"`}
}

// expired gives the server an expired certificate.
func expired(t *testing.T, l *lab.Lab) []string {
	a := harness.NewAuthority(t)
	pair := a.IssueServer(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, -9), time.Now().AddDate(0, 0, -2)
	})
	peers.VSFTPDWithTLS(t, l.Server(), harness.Forward4.Server, peers.ServerTLS{Certificate: pair})
	return []string{"[forward.tls]", `server = "required"`, fmt.Sprintf("ca = %q", a.CAFile)}
}

// gatewayExpired gives the gateway an expired certificate. Its clients refuse that, ftpgate does not.
func gatewayExpired(t *testing.T, l *lab.Lab) []string {
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	pair := harness.NewAuthority(t).IssueGateway(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, -9), time.Now().AddDate(0, 0, -2)
	})
	return []string{"[forward.tls]", `client = "optional"`, fmt.Sprintf("cert = %q", pair.CertFile),
		fmt.Sprintf("key = %q", pair.KeyFile)}
}

// portsTaken lets other programs listen at all passive ports.
func portsTaken(t *testing.T, l *lab.Lab) []string {
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	for port := 50000; port < 50004; port++ {
		harness.Listen(t, l.Gateway(), fmt.Sprintf("192.168.5.2:%d", port))
	}
	return []string{`passive_ports = "50000-50003"`}
}

func listenTaken(t *testing.T, l *lab.Lab) []string {
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	harness.Listen(t, l.Gateway(), harness.Gateway4)
	return nil
}

const policyDrop = `nft add table inet fw; nft add chain inet fw f '{ type filter hook forward ` +
	`priority 0; policy drop; }'`

var doctorCases = map[string]doctorCase{
	"server down": {serverDown, nil, "server_connect", "fault",
		"203.0.113.21:21 refused the connection", "start the FTP server there"},
	"server silent": {onServer("nft add table inet x; nft add chain inet x i '{ type filter hook input " +
		"priority 0; policy drop; }'"), []string{"--try-time", "3s"},
		"server_connect", "fault", "no answer from 203.0.113.21:21", "whether the host is up"},
	"wrong port": {wrongPort, nil, "server_greeting", "fault",
		"what listens at 203.0.113.21:22 speaks SSH (SFTP is no FTP)", "correct the port in `server`"},
	"passive ports rejected by the server": {
		onServer("nft add table inet x; nft add chain inet x i '{ type filter hook input priority 0; " +
			"}'; nft add rule inet x i tcp dport 50000-50100 reject with tcp reset"), nil,
		"server_pasv", "fault", "the passive port that PASV gave cannot be connected to",
		"whether a firewall rejects the server's passive ports"},
	"passive ports dropped by the gateway": {
		onGateway("nft add table inet x; nft add chain inet x o '{ type filter hook output priority 0; " +
			"}'; nft add rule inet x o tcp dport 50000-50100 drop"), []string{"--try-time", "12s"},
		"server_epsv", "fault", "the passive port that EPSV gave cannot be connected to",
		"let the server's passive ports through"},
	"passive ports taken": {portsTaken, nil, "passive_ports", "warning",
		"other programs listen within the passive ports 50000-50003: 50000 (",
		"choose other passive_ports"},
	"listen taken": {listenTaken, nil, "listen_taken", "fault",
		fmt.Sprintf("listen %s is taken by ", harness.Gateway4), "choose another port"},
	"server's certificate expired": {expired, nil, "server_certificate", "fault",
		"the server's certificate has expired on ", "have it renewed on the server"},
	"gateway's certificate expired": {gatewayExpired, nil, "tls_cert", "warning",
		"expired on ", "have it renewed"},
	"no such name": {func(*testing.T,
		*lab.Lab) []string {
		return []string{`server = "nowhere.invalid"`}
	}, nil,
		"name_resolution", "fault", `server name "nowhere.invalid" cannot be resolved`,
		"getent hosts nowhere.invalid"},
	"policy drop": {onGateway(policyDrop), nil, "host", "warning",
		"chain f of table inet fw refuses by default",
		"nft insert rule inet fw f ct status dnat accept"},
	"MTU": {onGateway("ip link set wan0 mtu 1400"), nil, "mtu", "warning",
		"the path MTU to 203.0.113.21 is 1400", "clamp the MSS"},
	"no route": {onGateway("ip route del 203.0.113.0/24"), nil, "route", "fault",
		"203.0.113.21 cannot be reached", "ip route get 203.0.113.21"},
	"foreign address": {func(t *testing.T, l *lab.Lab) []string {
		peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
		return []string{`interface = "lan9"`}
	}, nil, "host", "fault", `interface "lan9" does not exist`, "name one of "},
	"server demands TLS": {func(t *testing.T, l *lab.Lab) []string {
		peers.VSFTPDWithTLS(t, l.Server(), harness.Forward4.Server,
			peers.ServerTLS{Certificate: harness.NewAuthority(t).IssueServer()})
		return nil
	}, nil, "server_auth_tls", "fault", "the server demands TLS", `tls.server = "required"`},
	"authority missing": {func(t *testing.T, l *lab.Lab) []string {
		peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
		return []string{"[forward.tls]", `server = "required"`, `ca = "/nowhere/ca.pem"`}
	}, nil, "tls_ca", "fault", "/nowhere/ca.pem does not exist", "name the file where it is"},
}

func TestDoctorFinds(t *testing.T) {
	labtest.Need(t, "nft", "ip", "sysctl")
	for name, tt := range doctorCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.run(t)
		})
	}
}

// run expects the finding, and none that is worse.
func (p doctorCase) run(t *testing.T) {
	l := labtest.New(t)
	keys := p.provoke(t, l)
	d := runDoctor(t, l.Gateway(), append([]string{"-c", writeConfig(t, keys...)}, p.args...)...)
	d.wantFinding(p.code, p.level, p.text, p.remedy)
	want := 0
	if p.level == "fault" {
		want = 1
	}
	if d.status != want || d.Worst != p.level {
		t.Errorf("got exit status %d, worst %q; want %d, %q:\n%s", d.status, d.Worst, want, p.level, d.text)
	}
}
