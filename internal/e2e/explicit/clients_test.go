package explicit

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// settings are a client with its own settings for an FTP proxy.
type settings struct {
	programs []string
	account  bool                     // the gateway has an account of its own
	files    func(v visit) []file     // in the client's home
	run      func(v visit) [][]string // the invocations
	input    func(v visit) string
}

type file struct{ name, text string }

// visit is a server that a client reaches through the gateway.
type visit struct {
	gateway, server netip.AddrPort
	user, password  string
	proxyUser       string
	proxyPassword   string
}

// host is the server as URLs and commands write it.
func (v visit) host() string {
	if v.server.Addr().Is6() {
		return "[" + v.server.Addr().String() + "]"
	}
	return v.server.Addr().String()
}

const fetched = "fetched"

func lftp(kind string, withUser bool) settings {
	return settings{programs: []string{"lftp"}, account: withUser && kind != "user" && kind != "open",
		run: func(v visit) [][]string {
			proxy := "ftp://" + v.gateway.String()
			if withUser {
				proxy = "ftp://" + v.proxyUser + ":" + v.proxyPassword + "@" + v.gateway.String()
			}
			script := []string{"debug 9", "set cmd:fail-exit on", "set net:max-retries 1",
				"set net:timeout 60",
				"set ftp:ssl-allow off", "set ftp:proxy " + proxy, "set ftp:proxy-auth-type " + kind,
				fmt.Sprintf("open -u %s,%s ftp://%s:%d/", v.user, v.password, v.host(), v.server.Port()),
				"ls pub", "get " + peers.DownloadPath + " -o " + fetched}
			return [][]string{{"lftp", "-c", strings.Join(script, "; ")}}
		}}
}

// ownHome runs a program with the test's settings in the home that ncftp looks for, which is that of the user
// database, whatever HOME says.
const ownHome = `mount -t tmpfs tmpfs /root && cp -r "$HOME/.ncftp" /root/ && exec "$@"`

func ncftp(kind int, account bool) settings {
	return settings{programs: []string{"ncftpls", "ncftpget", "unshare"}, account: account,
		files: func(v visit) []file {
			return []file{{".ncftp/firewall", fmt.Sprintf("firewall-type=%d\nfirewall-host=%s\n"+
				"firewall-port=%d\n"+
				"firewall-user=%s\nfirewall-password=%s\nfirewall-exception-list=.none.example\n", kind,
				v.gateway.Addr(), v.gateway.Port(), v.proxyUser, v.proxyPassword)}}
		},
		run: func(v visit) [][]string {
			with := func(program string, more ...string) []string {
				return append([]string{"unshare", "--mount", "sh", "-c", ownHome, "sh", program,
					"-F", "-d", "stdout", "-t", "10", "-r", "1",
					"-u", v.user, "-p",
					v.password, "-P", fmt.Sprint(v.server.Port())}, more...)
			}
			return [][]string{
				with("ncftpls", "-l", "ftp://"+v.host()+"/pub/"),
				with("ncftpget", "-V", "-C", v.host(), peers.DownloadPath, fetched),
			}
		}}
}

// clients are programs by the names of their settings.
var clients = map[string]settings{
	"curl with user@host": {programs: []string{"curl"}, run: func(v visit) [][]string {
		with := func(path string, more ...string) []string {
			return append([]string{"curl", "--verbose", "--silent", "--show-error", "--globoff",
				"--max-time", "20",
				"--no-ftp-skip-pasv-ip",
				"--user", fmt.Sprintf("%s@%s:%s", v.user, v.server.Addr(), v.password),
				"ftp://" + v.gateway.String() + "/" + path}, more...)
		}
		return [][]string{with("pub/"), with(peers.DownloadPath, "--output", fetched)}
	}},
	"curl with user@host:port in the URL": {programs: []string{"curl"}, run: func(v visit) [][]string {
		with := func(path string, more ...string) []string {
			return append([]string{"curl", "--verbose", "--silent", "--show-error", "--globoff",
				"--max-time", "20",
				"--disable-epsv", fmt.Sprintf("ftp://%s%%40%s%%3A%d:%s@%s/%s", v.user, v.server.Addr(),
					v.server.Port(), v.password, v.gateway, path)}, more...)
		}
		return [][]string{with("pub/"), with(peers.DownloadPath, "--output", fetched)}
	}},
	"lftp":                 lftp("user", false),
	"lftp user":            lftp("user", true),
	"lftp open":            lftp("open", true),
	"ncftp 1":              ncftp(1, false),
	"ncftp 2":              ncftp(2, false),
	"ncftp 3":              ncftp(3, false),
	"ncftp 4":              ncftp(4, false),
	"ncftp 5":              ncftp(5, true),
	"ncftp 6":              ncftp(6, true),
	"ncftp 7":              ncftp(7, true),
	"lftp joined":          lftp("joined", true),
	"lftp joined-acct":     lftp("joined-acct", true),
	"lftp proxy-user@host": lftp("proxy-user@host", true),
	"ncftp 8":              ncftp(8, false),
	"ncftp 9":              ncftp(9, false),
	"wget": {programs: []string{"wget"}, run: func(v visit) [][]string {
		with := func(path, to string) []string {
			return []string{"wget", "--debug", "--no-verbose", "--tries=1", "--timeout=20", "-e",
				"ftp_proxy=ftp://" + v.gateway.String(), "--output-document", to,
				fmt.Sprintf("ftp://%s:%s@%s:%d/%s", v.user, v.password, v.host(), v.server.Port(), path)}
		}
		return [][]string{with("pub/", "/dev/stdout"), with(peers.DownloadPath, fetched)}
	}},
	"tnftp gate": {programs: []string{"tnftp"},
		files: func(v visit) []file {
			return []file{{".netrc", fmt.Sprintf("machine %s login %s password %s\n", v.server.Addr(), v.user,
				v.password)}}
		},
		run: func(visit) [][]string { return [][]string{{"tnftp", "-v", "-d"}} },
		input: func(v visit) string {
			return fmt.Sprintf("gate %s %d\nopen %s\nbinary\nls pub\nget %s %s\nquit\n", v.gateway.Addr(),
				v.gateway.Port(), v.server.Addr(), peers.DownloadPath, fetched)
		}},
}

// TestClients has every client fetch a listing and a file with its own settings for an FTP proxy.
func TestClients(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	at := harness.Forward4
	s := peers.ProFTPD(t, l.Server(), at.Server)
	harness.Start(t, l.Gateway(), "outbound", "--listen", at.Listen.String(), "--data", "kernel").AwaitReady()
	withAccount := netip.AddrPortFrom(at.Listen.Addr(), at.Listen.Port()+1)
	harness.Start(t, l.Gateway(), "outbound", "--listen", withAccount.String(), "--account-file",
		harness.WriteFile(t, "account", "fw:sesame\n")).AwaitReady()
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, c.programs...)
			v := visit{at.Listen, at.Server, s.User, s.Password, "fw", "sesame"}
			if c.account {
				v.gateway = withAccount
			}
			home := t.TempDir()
			if c.files != nil {
				for _, f := range c.files(v) {
					path := filepath.Join(home, f.name)
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			var transcript strings.Builder
			for _, args := range c.run(v) {
				i := peers.Invocation{Args: args}
				if c.input != nil {
					i.Input = c.input(v)
				}
				text, err := peers.Exec(t, l.Client(), home, i)
				transcript.WriteString(text)
				if err != nil {
					t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
				}
			}
			if !strings.Contains(transcript.String(), peers.ListedName) {
				t.Errorf("got no %q in the listing:\n%s", peers.ListedName, &transcript)
			}
			got, err := os.ReadFile(filepath.Join(home, fetched))
			if err != nil || string(got) != string(peers.Content()) {
				t.Errorf("got %d bytes, error %v; want the file:\n%s", len(got), err, &transcript)
			}
		})
	}
}
