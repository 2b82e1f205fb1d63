package interop

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// TestClientsAndServers makes every client list, download and upload with every server, in every mode
// that it knows.
func TestClientsAndServers(t *testing.T) {
	t.Parallel()
	for name, run := range peers.Servers {
		for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
			t.Run(name+"/"+at.IPVersion(), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				s := run(t, l.Server(), at.Server)
				harness.StartForward(t, l, at, "--data", "kernel")
				peers.CheckClients(t, l, s, at, peers.LFTP, peers.Curl, peers.NcFTP, peers.Tnftp)
			})
		}
	}
}

// TestRelayClients does the same over the relay, with one server.
func TestRelayClients(t *testing.T) {
	t.Parallel()
	for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server)
			harness.StartForward(t, l, at, "--data", "relay")
			peers.CheckClients(t, l, s, at, peers.LFTP, peers.Curl, peers.NcFTP, peers.Tnftp)
		})
	}
}

// TestOtherFamily joins clients with servers of the other version of IP.
func TestOtherFamily(t *testing.T) {
	t.Parallel()
	for at, modes := range map[harness.Forward]map[peers.Mode]peers.Mode{
		harness.Forward4To6: peers.ModesTowardsIPv6,
		harness.Forward6To4: peers.ModesTowardsIPv4,
	} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server)
			harness.StartForward(t, l, at)
			peers.CheckTranslated(t, l, s, at, modes, peers.LFTP, peers.Curl, peers.Tnftp)
		})
	}
}

// TestServerModePassive joins active and passive clients with a server that is always asked for
// passive mode.
func TestServerModePassive(t *testing.T) {
	t.Parallel()
	for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server, "port_enable=NO")
			harness.StartForward(t, l, at, "--server-mode", "passive")
			peers.CheckTranslated(t, l, s, at, peers.ModesTowardsPassive, peers.Curl)
		})
	}
}

// The README's case: lftp gets a 227 that names the gateway, and has nothing to repair.
func TestReadmeCase(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	harness.StartForward(t, l, harness.Forward4)
	o := peers.RunClient(t, l.Client(), peers.LenientLFTP, s, peers.PASV, harness.Forward4.Listen)
	o.WantFiles(t, s)
	o.WantAnnounced(t, lab.GatewayLAN4)
	harness.WantContains(t, o.Transcript, "---- Connecting data socket to (192.168.5.2) port ")
	for _, unwanted := range []string{"has been fixed", lab.ServerAddr4.String(), "203,0,113"} {
		if strings.Contains(o.Transcript, unwanted) {
			t.Errorf("lftp has %q in its debug log; want the server's address nowhere", unwanted)
		}
	}
}

// Clients reach a server that announces a foreign address (its public one, as servers behind NAT do).
func TestForeignAddressAnnounced(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, "pasv_address=198.51.100.99")
			harness.StartForward(t, l, harness.Forward4, flags...)
			peers.CheckClient(t, l, peers.Curl, s, peers.PASV, harness.Forward4)
		})
	}
}

// lftp sends several commands at once (pipelining), in several sessions, and copies a tree of small
// files there and back.
func TestMirror(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "lftp")
	for name, run := range peers.Servers {
		for _, passive := range []string{"on", "off"} {
			if name == "pyftpdlib" && passive == "off" {
				continue // pyftpdlib loses events of active connections: this hangs without a gateway, too
			}
			t.Run(name+"/passive "+passive, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				s := run(t, l.Server(), harness.Forward4.Server)
				harness.StartForward(t, l, harness.Forward4)
				mirror(t, l, s, passive)
			})
		}
	}
}

const (
	mirrorFiles    = 240
	mirrorParallel = 3
)

func mirror(t *testing.T, l *lab.Lab, s peers.Server, passive string) {
	t.Helper()
	home := t.TempDir()
	sent, back := filepath.Join(home, "sent"), filepath.Join(home, "back")
	for i := range mirrorFiles {
		dir := filepath.Join(sent, fmt.Sprint("d", i%7))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		start := i * 1009
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), peers.Content()[start:start+i*13],
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := strings.Join([]string{
		"debug 3", "set cmd:fail-exit on", "set net:max-retries 1", "set net:timeout 60",
		"set ftp:ssl-allow off",
		"set ftp:sync-mode off", "set ftp:fix-pasv-address off", "set ftp:verify-address on",
		"set ftp:passive-mode " + passive,
		fmt.Sprintf("open -u %s,%s ftp://%s/", s.User, s.Password, harness.Forward4.Listen),
		fmt.Sprintf("mirror -R --parallel=%d %s in/tree", mirrorParallel, sent),
		fmt.Sprintf("mirror --parallel=%d in/tree %s", mirrorParallel, back),
	}, "; ")
	text, err := peers.Exec(t, l.Client(), home, peers.Invocation{Args: []string{"lftp", "-c", script}})
	if err != nil {
		t.Errorf("lftp: %v\n%s", err, harness.LastLines(text))
	}
	want := readTree(t, sent)
	for where, dir := range map[string]string{"at the server": filepath.Join(s.Root, "in/tree"),
		"back": back} {
		got := readTree(t, dir)
		if len(got) != mirrorFiles {
			t.Errorf("%s: got %d files; want %d", where, len(got), mirrorFiles)
		}
		for name, data := range want {
			if !bytes.Equal(got[name], data) {
				t.Errorf("%s: %s: got %d bytes; want the %d that were sent", where, name, len(got[name]),
					len(data))
			}
		}
	}
}

// readTree reads all files below a directory.
func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = data
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// A client aborts a transfer when it has enough bytes, and can start at an offset.
func TestRanges(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "curl")
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			harness.StartForward(t, l, harness.Forward4, flags...)
			dir := t.TempDir()
			for part, want := range map[string][]byte{
				"0-9": peers.Content()[:10], "1000-1999": peers.Content()[1000:2000],
				"2000000-": peers.Content()[2_000_000:],
			} {
				text, err := peers.Exec(t, l.Client(), dir, peers.Invocation{Args: []string{"curl", "-v",
					"-sS", "-m", "20", "--no-ftp-skip-pasv-ip",
					"--user", s.User + ":" + s.Password, "-r", part, "-o", "part",
					"ftp://" + harness.Forward4.Listen.String() + "/" + peers.DownloadPath}})
				got, errRead := os.ReadFile(filepath.Join(dir, "part"))
				if err != nil || errRead != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: got %d bytes, errors %v, %v; want %d\n%s", part, len(got), err, errRead,
						len(want), harness.LastLines(text))
				}
			}
		})
	}
}
