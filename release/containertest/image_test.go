package containertest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestImageServes runs the image with the command of compose.yaml behind the ports that it publishes, as an
// engine would, before a server in another container.
func TestImageServes(t *testing.T) {
	l, gateway := newEngine(t)
	server := gateway.connect(t, "ftp", serverAddr)
	c := gateway.connect(t, "ftpgate", containerAddr)
	s := peers.VSFTPD(t, server, netip.AddrPortFrom(serverAddr, 21))
	service := composed(t).Services["ftpgate"]
	run := container{image: readImage(t), args: service.Command}
	p := run.run(t, c).AwaitReady()
	check := service.HealthCheck.Test[1:] // behind CMD
	check[0] = "/usr/bin/" + check[0]     // nsenter has a PATH of its own
	if out, status := run.inside(t, p, check...); status != 0 || !strings.Contains(out,
		":2121 leads to ftp") {
		t.Errorf("%v: got status %d,\n%s\nwant 0, and the forward", check, status, out)
	}
	at := netip.AddrPortFrom(lab.GatewayLAN4, 21)
	for _, client := range []peers.Client{peers.Curl, peers.LFTP} {
		for _, mode := range []peers.Mode{peers.PASV, peers.EPSV} {
			t.Run(client.Name+"/"+string(mode), func(t *testing.T) {
				out := peers.RunClient(t, l.Client(), client, s, mode, at)
				out.WantFiles(t, s)
				out.WantModes(t, s, containerAddr)
				out.WantAnnounced(t, lab.GatewayLAN4)
			})
		}
	}
}

// TestImageRuns runs the commands of the image: what it does without a file, and what its user may do.
func TestImageRuns(t *testing.T) {
	image := readImage(t)
	_, gateway := newEngine(t)
	c := gateway.connect(t, "ftpgate", containerAddr)

	p := container{image: image, args: image.config.Cmd}.run(t, c)
	if got := p.Wait(); got != 2 {
		t.Errorf("without a file: got exit status %d; want 2", got)
	}
	harness.WantContains(t, p.Log(), "/etc/ftpgate/ftpgate.toml: no such file or directory")

	p = container{image: image, args: image.config.Cmd, file: `health = "off"
[[forward]]
listen = ":2121"
server = "ftp"
tls = { client = "required", cert = "self-signed", server = "required" }
`}.run(t, c)
	p.AwaitReady()
	// It trusts authorities and can keep its certificate, or there would be other warnings.
	harness.WantContains(t, p.Log(), "clients cannot verify it unless you give them /var/lib/ftpgate/")
	if got := p.LogCount("level=WARN"); got != 1 {
		t.Errorf("got %d warnings; want the one of a self-signed certificate", got)
	}
	for _, line := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532",
		"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"} {
		harness.WantContains(t, harness.ReadFile(t, fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid)), line)
	}
	p.Interrupt()
}

// TestImageOnNode runs the image as the chart's DaemonSet does: in the host's network, as root with two
// capabilities, so that the kernel carries the data.
func TestImageOnNode(t *testing.T) {
	l := labtest.New(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	run := container{image: readImage(t), user: "0:65532", capabilities: ",+net_admin,+net_bind_service",
		args: []string{"run", "--watch"}, file: fmt.Sprintf(`health = "off"
[[forward]]
listen = ":21"
server = %q
data = "kernel"
`, lab.ServerAddr4)}
	p := run.run(t, l.Gateway()).AwaitReady()
	if out, status := run.inside(t, p, "/usr/bin/ftpgate", "status"); status != 0 {
		t.Errorf("the probe: got status %d,\n%s\nwant 0", status, out)
	}
	out := peers.RunClient(t, l.Client(), peers.Curl, s, peers.PASV, netip.AddrPortFrom(lab.GatewayLAN4, 21))
	out.WantFiles(t, s)
	out.WantAnnounced(t, lab.GatewayLAN4)
	p.Interrupt()
}

// TestImageFiles: the image has what its program needs, and no more.
func TestImageFiles(t *testing.T) {
	image := readImage(t)
	want := "etc/ etc/ftpgate/ etc/group etc/passwd etc/ssl/ etc/ssl/certs/ " +
		"etc/ssl/certs/ca-certificates.crt " +
		"tmp/ usr/ usr/bin/ usr/bin/ftpgate usr/share/ usr/share/licenses/ usr/share/licenses/ftpgate/ " +
		"usr/share/licenses/ftpgate/LICENSES.txt var/ var/lib/ var/lib/ftpgate/"
	if got := strings.Join(image.names, " "); got != want {
		t.Errorf("got the files\n%s\nwant\n%s", got, want)
	}
	if got := image.config.User; got != "65532:65532" {
		t.Errorf("got the user %s; want 65532:65532", got)
	}
	version := strings.TrimSpace(harness.ReadFile(t, "../../internal/version/VERSION"))
	if got := image.config.Labels["org.opencontainers.image.version"]; !strings.HasPrefix(got, version) {
		t.Errorf("got the version %q; want %s", got, version)
	}
	if got := image.config.Labels["org.opencontainers.image.licenses"]; got != "Apache-2.0" {
		t.Errorf("got the license %q; want Apache-2.0", got)
	}
	if got := strings.Join(image.platforms, " "); got != "linux/amd64 linux/arm64" {
		t.Errorf("got the platforms %q; want linux/amd64 linux/arm64", got)
	}
}
