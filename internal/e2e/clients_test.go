package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// mode is the command that asks for a data connection (RFC 959 section 4.1.2, RFC 2428).
type mode string

const (
	pasv mode = "PASV"
	epsv mode = "EPSV"
	port mode = "PORT"
	eprt mode = "EPRT"
)

// dataCommand is such a command with its argument.
type dataCommand struct {
	mode     mode
	argument string
}

// address returns the address that a PORT or EPRT names, in its usual form: the kernel's helper
// writes IPv6 addresses out in full. What is no address comes back as it is.
func (c dataCommand) address() (addr string, ok bool) {
	switch fields := strings.Split(c.argument, "|"); {
	case c.mode == port:
		h := strings.Split(c.argument, ",")
		addr = strings.Join(h[:min(len(h), 4)], ".")
	case c.mode == eprt && len(fields) == 5:
		addr = fields[2]
	default:
		return c.argument, c.mode == eprt
	}
	if parsed, err := netip.ParseAddr(addr); err == nil {
		addr = parsed.String()
	}
	return addr, true
}

func findCommands(expr *regexp.Regexp, text string) []dataCommand {
	var found []dataCommand
	for _, m := range expr.FindAllStringSubmatch(text, -1) {
		found = append(found, dataCommand{mode(m[1]), strings.TrimSpace(m[2])})
	}
	return found
}

// visit is what a client is to do: list remoteDir, fetch remoteFile and store it as uploadFile.
type visit struct {
	mode           mode
	at             netip.AddrPort
	user, password string
	fetched, sent  string // paths of the client's copies: to be made, and to be stored
}

// url names something at the site.
func (v visit) url(path string) string { return "ftp://" + v.at.String() + "/" + path }

// step is one run of a client program.
type step struct {
	args  []string
	input string
}

// client is a real FTP client.
type client struct {
	name     string
	programs []string
	v4, v6   []mode // what it can do over each version of IP
	steps    func(visit) []step
}

var (
	lftp = client{"lftp", []string{"lftp"}, []mode{pasv, epsv, port}, []mode{epsv, eprt},
		// Strict: it takes the address of a 227 as it is, and data from nobody but the gateway.
		func(v visit) []step { return lftpSteps(v, "set ftp:fix-pasv-address off", "set ftp:verify-address on") }}
	curl  = client{"curl", []string{"curl"}, []mode{pasv, epsv, port, eprt}, []mode{epsv, eprt}, curlSteps}
	ncftp = client{"ncftp", []string{"ncftpls", "ncftpget", "ncftpput"}, []mode{pasv, port}, nil, ncftpSteps}
	tnftp = client{"tnftp", []string{"tnftp"}, []mode{pasv, epsv, port, eprt}, []mode{epsv, eprt}, tnftpSteps}
)

// lftpSteps are lftp's, with its own settings but for those given.
func lftpSteps(v visit, settings ...string) []step {
	onOff := map[bool]string{true: "on", false: "off"}
	script := append([]string{
		"debug 9", "set cmd:fail-exit on", "set net:max-retries 1", "set net:timeout 10", "set ftp:ssl-allow off",
		"set ftp:passive-mode " + onOff[v.mode == pasv || v.mode == epsv],
		"set ftp:prefer-epsv " + onOff[v.mode == epsv],
	}, settings...)
	script = append(script,
		fmt.Sprintf("open -u %s,%s %s", v.user, v.password, v.url("")),
		"ls "+remoteDir,
		fmt.Sprintf("get %s -o %s", remoteFile, v.fetched),
		fmt.Sprintf("put %s -o %s", v.sent, uploadFile))
	return []step{{args: []string{"lftp", "-c", strings.Join(script, "; ")}}}
}

// curlSteps are curl's, which is told to believe the address of a 227: by itself it ignores it, and
// hides faults of address translation.
func curlSteps(v visit) []step {
	args := []string{"curl", "--verbose", "--silent", "--show-error", "--globoff", "--max-time", "20",
		"--no-ftp-skip-pasv-ip", "--user", v.user + ":" + v.password}
	switch v.mode {
	case pasv:
		args = append(args, "--disable-epsv")
	case epsv:
		args = append(args, "--ftp-pasv")
	case port:
		args = append(args, "--ftp-port", "-", "--disable-eprt")
	case eprt:
		args = append(args, "--ftp-port", "-")
	}
	with := func(more ...string) step { return step{args: append(args[:len(args):len(args)], more...)} }
	return []step{
		with(v.url(remoteDir + "/")),
		with("--output", v.fetched, v.url(remoteFile)),
		with("--upload-file", v.sent, v.url(uploadFile)),
	}
}

func ncftpSteps(v visit) []step {
	way := map[mode]string{pasv: "-F", port: "-E"}[v.mode]
	with := func(program string, more ...string) step {
		return step{args: append([]string{program, way, "-d", "stdout", "-t", "10", "-r", "1",
			"-u", v.user, "-p", v.password, "-P", fmt.Sprint(v.at.Port())}, more...)}
	}
	host := v.at.Addr().String()
	return []step{
		with("ncftpls", "-l", "ftp://"+host+"/"+remoteDir+"/"),
		with("ncftpget", "-V", "-C", host, remoteFile, v.fetched),
		with("ncftpput", "-V", "-C", host, v.sent, uploadFile),
	}
}

func tnftpSteps(v visit) []step {
	way := "-p"
	if v.mode == port || v.mode == eprt {
		way = "-A"
	}
	script := []string{"user " + v.user + " " + v.password}
	if v.mode == pasv || v.mode == port {
		script = append(script, "epsv4") // a switch, and on at first
	}
	script = append(script, "binary", "ls "+remoteDir,
		fmt.Sprintf("get %s %s", remoteFile, v.fetched),
		fmt.Sprintf("put %s %s", v.sent, uploadFile), "quit")
	return []step{{
		args:  []string{"tnftp", "-n", "-v", "-d", way, v.at.Addr().String(), fmt.Sprint(v.at.Port())},
		input: strings.Join(script, "\n") + "\n",
	}}
}

// outcome is what came of a visit.
type outcome struct {
	visit
	client     client
	transcript string // all that the client printed, its debug log included
	err        error  // the first program that failed
}

// curlFault is what curl 7.88.1 says where it reads memory that it has not set, before it sends
// PORT (fixed in 8.0; curl's issue 10622). Seldom that is an error.
const curlFault = "sa_addr inet_ntop() failed"

// call has a client do its steps on a host.
func call(t *testing.T, h *lab.Host, c client, s server, m mode, at netip.AddrPort) outcome {
	t.Helper()
	labtest.Need(t, c.programs...)
	dir := t.TempDir()
	v := visit{m, at, s.user, s.password, filepath.Join(dir, "fetched"), filepath.Join(dir, "sent")}
	if err := os.WriteFile(v.sent, content(), 0o644); err != nil {
		t.Fatal(err)
	}
	out := outcome{visit: v, client: c}
	for _, step := range c.steps(v) {
		text, err := do(t, h, dir, step)
		if err != nil && strings.Contains(text, curlFault) && len(findCommands(clientCommand, text)) == 0 {
			text, err = do(t, h, dir, step)
		}
		out.transcript += text
		if err != nil {
			out.err = err
			break
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("transcript of %s:\n%s", c.name, out.transcript)
		}
	})
	return out
}

// do runs one step and returns what it printed.
func do(t *testing.T, h *lab.Host, home string, s step) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.input), &text, &text
	// No settings of the user's and no FTP proxy of the environment's.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C"}
	cmd.Dir = home
	cmd.WaitDelay = patience
	err := h.Run(cmd)
	return text.String(), err
}

// files asserts that the visit has listed, fetched and stored what it should, byte by byte.
func (o outcome) files(t *testing.T, s server) {
	t.Helper()
	if o.err != nil {
		t.Errorf("%s: %v", o.client.name, o.err)
	}
	if !strings.Contains(o.transcript, remoteMarker) {
		t.Errorf("got no %q in the listing", remoteMarker)
	}
	want := sha256.Sum256(content())
	for what, path := range map[string]string{"fetched": o.fetched, "stored": filepath.Join(s.root, uploadFile)} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s file: %v", what, err)
		} else if got := sha256.Sum256(data); got != want {
			t.Errorf("%s file: got %d bytes, SHA-256 %x; want %d bytes, %x", what, len(data), got, len(content()), want)
		}
	}
}

// transfers is how many data connections a visit takes: a listing and two files.
const transfers = 3

// modes asserts that every data connection was asked for in the visit's mode, by what the client
// says and by what the server says that it got; and that the server was told the gateway's address.
func (o outcome) modes(t *testing.T, s server, masked netip.Addr) {
	t.Helper()
	said := findCommands(clientCommand, o.transcript)
	o.allInMode(t, "the client sent", said)
	if s.log == "" {
		return
	}
	got := s.dataCommands(t)
	o.allInMode(t, "the server got", got)
	for _, c := range got {
		if told, ok := c.address(); ok && told != masked.String() {
			t.Errorf("the server got %s %s, which names %s; want %s", c.mode, c.argument, told, masked)
		}
	}
}

// clientCommand finds the commands in the debug logs of curl ("> PASV"), lftp and tnftp
// ("---> PASV") and ncftp ("Cmd: PASV").
var clientCommand = regexp.MustCompile(`(?m)(?:> |^Cmd: )(PASV|EPSV|PORT|EPRT)\b(.*)$`)

func (o outcome) allInMode(t *testing.T, who string, commands []dataCommand) {
	t.Helper()
	if len(commands) != transfers {
		t.Errorf("%s %d data commands, %v; want %d", who, len(commands), commands, transfers)
	}
	for _, c := range commands {
		if c.mode != o.mode {
			t.Errorf("%s %s %s; want %s", who, c.mode, c.argument, o.mode)
		}
	}
}

// passiveReply finds the address in a 227, which ncftp shows as "227: Entering".
var passiveReply = regexp.MustCompile(`(?m)\b227\b.*?(\d+,\d+,\d+,\d+),\d+,\d+`)

// named asserts which address the replies to PASV gave the client.
func (o outcome) named(t *testing.T, want netip.Addr) {
	t.Helper()
	replies := passiveReply.FindAllStringSubmatch(o.transcript, -1)
	if o.mode != pasv {
		if len(replies) != 0 {
			t.Errorf("got a 227 in mode %s: %q", o.mode, replies[0][0])
		}
		return
	}
	if len(replies) == 0 {
		t.Error("got no 227 in the client's debug log")
	}
	for _, r := range replies {
		if got := strings.ReplaceAll(r[1], ",", "."); got != want.String() {
			t.Errorf("got %q, which names %s; want %s", r[0], got, want)
		}
	}
}
