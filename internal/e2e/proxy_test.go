package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// serverPrograms are the real servers.
var serverPrograms = map[string]func(*testing.T, *lab.Host, netip.AddrPort) server{
	"vsftpd":    func(t *testing.T, h *lab.Host, at netip.AddrPort) server { return vsftpd(t, h, at) },
	"pure-ftpd": func(t *testing.T, h *lab.Host, at netip.AddrPort) server { return pureFTPd(t, h, at) },
	"proftpd":   func(t *testing.T, h *lab.Host, at netip.AddrPort) server { return proFTPd(t, h, at) },
	"pyftpdlib": pyftpdlib,
}

// TestProxyClientsAndServers has every client list, fetch and store with every server, in every mode
// that it can do.
func TestProxyClientsAndServers(t *testing.T) {
	for name, run := range serverPrograms {
		for _, c := range []client{lftp, curl, ncftp, tnftp} {
			for at, modes := range map[site][]mode{site4: c.v4, site6: c.v6} {
				for _, m := range modes {
					t.Run(name+"/"+c.name+"/"+at.version()+"/"+string(m), func(t *testing.T) {
						t.Parallel()
						l := labtest.New(t)
						s := run(t, l.Server(), at.server)
						forward(t, l, at, "--data", "kernel")
						through(t, l, c, s, m, at)
					})
				}
			}
		}
	}
}

// TestProxyRelayClients does the same on the other data path, with one server.
func TestProxyRelayClients(t *testing.T) {
	for _, c := range []client{lftp, curl, ncftp, tnftp} {
		for at, modes := range map[site][]mode{site4: c.v4, site6: c.v6} {
			for _, m := range modes {
				t.Run(c.name+"/"+at.version()+"/"+string(m), func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					s := vsftpd(t, l.Server(), at.server)
					forward(t, l, at, "--data", "relay")
					through(t, l, c, s, m, at)
				})
			}
		}
	}
}

var (
	// asIPv6 and asIPv4 are how a server of the other version of IP is asked: of those with IPv4 many
	// know PASV and PORT only (RFC 6384 sections 6 and 7).
	asIPv6 = map[mode]mode{pasv: epsv, epsv: epsv, port: eprt, eprt: eprt}
	asIPv4 = map[mode]mode{epsv: pasv, eprt: port}
	// asPassive is how one is asked that must not be asked to connect.
	asPassive = map[mode]mode{pasv: pasv, epsv: epsv, port: pasv, eprt: epsv}
)

// TestProxyOtherFamily joins clients with servers of the other version of IP.
func TestProxyOtherFamily(t *testing.T) {
	for _, c := range []client{lftp, curl, tnftp} {
		for at, modes := range map[site]map[mode]mode{
			{site4.listen, site6.server, site6.masked}: asIPv6,
			{site6.listen, site4.server, site4.masked}: asIPv4,
		} {
			can := c.v4
			if at.listen.Addr().Is6() {
				can = c.v6
			}
			for _, m := range can {
				t.Run(c.name+"/"+at.version()+"/"+string(m), func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					s := vsftpd(t, l.Server(), at.server)
					forward(t, l, at)
					translated(t, l, c, s, m, modes[m], at)
				})
			}
		}
	}
}

// TestProxyServerModePassive joins active and passive clients with a server that is always asked for
// passive.
func TestProxyServerModePassive(t *testing.T) {
	for at, modes := range map[site][]mode{site4: curl.v4, site6: curl.v6} {
		for _, m := range modes {
			t.Run(at.version()+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				s := vsftpd(t, l.Server(), at.server, "port_enable=NO")
				forward(t, l, at, "--server-mode", "passive")
				translated(t, l, curl, s, m, asPassive[m], at)
			})
		}
	}
}

// translated is through where the server is asked in another mode than the client has chosen.
func translated(t *testing.T, l *lab.Lab, c client, s server, m, asked mode, at site) {
	t.Helper()
	o := call(t, l.Client(), c, s, m, at.listen)
	o.files(t, s)
	o.allInMode(t, "the client sent", findCommands(clientCommand, o.transcript))
	o.named(t, at.listen.Addr())
	o.mode = asked
	got := s.dataCommands(t)
	o.allInMode(t, "the server got", got)
	for _, c := range got {
		if told, ok := c.address(); ok && told != at.masked.String() {
			t.Errorf("the server got %s %s, which names %s; want %s", c.mode, c.argument, told, at.masked)
		}
	}
}

// The recipe's own case: lftp asks, and the 227 names the gateway; nothing had to be put right.
func TestProxyRecipe(t *testing.T) {
	l := labtest.New(t)
	s := vsftpd(t, l.Server(), site4.server)
	forward(t, l, site4)
	mild := lftp
	mild.steps = func(v visit) []step { return lftpSteps(v) }
	o := call(t, l.Client(), mild, s, pasv, site4.listen)
	o.files(t, s)
	o.named(t, lab.GatewayLAN4)
	wantLines(t, o.transcript, "---- Connecting data socket to (192.168.5.2) port ")
	for _, unwanted := range []string{"has been fixed", lab.ServerAddr4.String(), "203,0,113"} {
		if strings.Contains(o.transcript, unwanted) {
			t.Errorf("lftp has %q in its debug log; want the server's address nowhere", unwanted)
		}
	}
}

// A server that announces a foreign address (its public one, as servers behind NAT do) is reached
// all the same.
func TestProxyForeignAddressAnnounced(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := vsftpd(t, l.Server(), site4.server, "pasv_address=198.51.100.99")
			forward(t, l, site4, flags...)
			through(t, l, curl, s, pasv, site4)
		})
	}
}

// Pipelining: lftp sends several commands at once, over several sessions, and a tree of small files
// goes there and back.
func TestProxyMirror(t *testing.T) {
	labtest.Need(t, "lftp")
	for name, run := range serverPrograms {
		for _, passive := range []string{"on", "off"} {
			if name == "pyftpdlib" && passive == "off" {
				continue // it loses events of its active connections: such a mirror hangs without a gateway, too
			}
			t.Run(name+"/passive "+passive, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				s := run(t, l.Server(), site4.server)
				forward(t, l, site4)
				mirror(t, l, s, passive)
			})
		}
	}
}

const (
	mirrorFiles    = 240
	mirrorParallel = 3
)

func mirror(t *testing.T, l *lab.Lab, s server, passive string) {
	t.Helper()
	home := t.TempDir()
	sent, back := filepath.Join(home, "sent"), filepath.Join(home, "back")
	for i := range mirrorFiles {
		dir := filepath.Join(sent, fmt.Sprint("d", i%7))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		start := i * 1009
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), content()[start:start+i*13], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := strings.Join([]string{
		"debug 3", "set cmd:fail-exit on", "set net:max-retries 1", "set net:timeout 10", "set ftp:ssl-allow off",
		"set ftp:sync-mode off", "set ftp:fix-pasv-address off", "set ftp:verify-address on", "set ftp:passive-mode " + passive,
		fmt.Sprintf("open -u %s,%s ftp://%s/", s.user, s.password, site4.listen),
		fmt.Sprintf("mirror -R --parallel=%d %s in/tree", mirrorParallel, sent),
		fmt.Sprintf("mirror --parallel=%d in/tree %s", mirrorParallel, back),
	}, "; ")
	text, err := do(t, l.Client(), home, step{args: []string{"lftp", "-c", script}})
	if err != nil {
		t.Errorf("lftp: %v\n%s", err, lastLines(text))
	}
	want := tree(t, sent)
	for where, dir := range map[string]string{"at the server": filepath.Join(s.root, "in/tree"), "back": back} {
		got := tree(t, dir)
		if len(got) != mirrorFiles {
			t.Errorf("%s: got %d files; want %d", where, len(got), mirrorFiles)
		}
		for name, data := range want {
			if !bytes.Equal(got[name], data) {
				t.Errorf("%s: %s: got %d bytes; want the %d that were sent", where, name, len(got[name]), len(data))
			}
		}
	}
}

// lastLines keeps the end of a long transcript.
func lastLines(text string) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[max(0, len(lines)-60):], "")
}

// tree reads all files below a directory.
func tree(t *testing.T, dir string) map[string][]byte {
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

// A client that has enough before the end breaks the transfer off; one that begins later asks for it.
func TestProxyRanges(t *testing.T) {
	labtest.Need(t, "curl")
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := vsftpd(t, l.Server(), site4.server)
			forward(t, l, site4, flags...)
			dir := t.TempDir()
			for part, want := range map[string][]byte{
				"0-9": content()[:10], "1000-1999": content()[1000:2000], "2000000-": content()[2_000_000:],
			} {
				text, err := do(t, l.Client(), dir, step{args: []string{"curl", "-v", "-sS", "-m", "20", "--no-ftp-skip-pasv-ip",
					"--user", s.user + ":" + s.password, "-r", part, "-o", "part", "ftp://" + site4.listen.String() + "/" + remoteFile}})
				got, errRead := os.ReadFile(filepath.Join(dir, "part"))
				if err != nil || errRead != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: got %d bytes, errors %v, %v; want %d\n%s", part, len(got), err, errRead, len(want), lastLines(text))
				}
			}
		})
	}
}
