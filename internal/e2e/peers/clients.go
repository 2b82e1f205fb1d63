package peers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// Mode is the command that asks for a data connection.
type Mode string

// The modes of RFC 959 section 4.1.2 and RFC 2428.
const (
	PASV Mode = "PASV"
	EPSV Mode = "EPSV"
	PORT Mode = "PORT"
	EPRT Mode = "EPRT"
)

// DataCommand is such a command with its argument.
type DataCommand struct {
	Mode     Mode
	Argument string
}

// Address returns the address that a PORT or EPRT names, in its canonical form: the kernel's helper
// writes IPv6 addresses in full. It returns an argument without an address unchanged.
func (c DataCommand) Address() (addr string, ok bool) {
	switch fields := strings.Split(c.Argument, "|"); {
	case c.Mode == PORT:
		h := strings.Split(c.Argument, ",")
		addr = strings.Join(h[:min(len(h), 4)], ".")
	case c.Mode == EPRT && len(fields) == 5:
		addr = fields[2]
	default:
		return c.Argument, c.Mode == EPRT
	}
	if parsed, err := netip.ParseAddr(addr); err == nil {
		addr = parsed.String()
	}
	return addr, true
}

func findDataCommands(expr *regexp.Regexp, text string) []DataCommand {
	var found []DataCommand
	for _, m := range expr.FindAllStringSubmatch(text, -1) {
		found = append(found, DataCommand{Mode(m[1]), strings.TrimSpace(m[2])})
	}
	return found
}

// task is what a client does: list listedDir, download DownloadPath and upload a file as UploadPath.
type task struct {
	mode               Mode
	address            netip.AddrPort
	user, password     string
	downloaded, source string // paths of the client's copies
}

// url returns the URL of a path at the forward.
func (v task) url(path string) string { return "ftp://" + v.address.String() + "/" + path }

// Invocation is one run of a client program.
type Invocation struct {
	Args  []string
	Input string
}

// Client is a real FTP client.
type Client struct {
	Name        string
	programs    []string
	ipv4, ipv6  []Mode // the modes that it knows over each version of IP
	invocations func(task) []Invocation
}

// The real clients.
var (
	LFTP = Client{"lftp", []string{"lftp"}, []Mode{PASV, EPSV, PORT}, []Mode{EPSV, EPRT},
		// Strict: it uses the address of a 227 unchanged, and accepts data from the gateway alone.
		func(v task) []Invocation {
			return lftpInvocations(v, "set ftp:fix-pasv-address off", "set ftp:verify-address on")
		}}
	Curl = Client{"curl", []string{"curl"}, []Mode{PASV, EPSV, PORT, EPRT}, []Mode{EPSV, EPRT},
		curlInvocations}
	// LenientLFTP is lftp with its default settings: it repairs the address in a 227.
	LenientLFTP = Client{"lftp", []string{"lftp"}, []Mode{PASV, EPSV, PORT}, []Mode{EPSV, EPRT},
		func(v task) []Invocation { return lftpInvocations(v) }}
	NcFTP = Client{"ncftp", []string{"ncftpls", "ncftpget", "ncftpput"}, []Mode{PASV, PORT}, nil,
		ncftpInvocations}
	Tnftp = Client{"tnftp", []string{"tnftp"}, []Mode{PASV, EPSV, PORT, EPRT}, []Mode{EPSV, EPRT},
		tnftpInvocations}
)

// Modes returns the modes that the client knows over the version of IP of a forward's clients.
func (c Client) Modes(f harness.Forward) []Mode {
	if f.Listen.Addr().Is4() {
		return c.ipv4
	}
	return c.ipv6
}

// lftpInvocations run lftp with its default settings and those given.
func lftpInvocations(v task, settings ...string) []Invocation {
	onOff := map[bool]string{true: "on", false: "off"}
	script := append([]string{
		"debug 9", "set cmd:fail-exit on", "set net:max-retries 1", "set net:timeout 60",
		"set ftp:ssl-allow off",
		"set ftp:passive-mode " + onOff[v.mode == PASV || v.mode == EPSV],
		"set ftp:prefer-epsv " + onOff[v.mode == EPSV],
	}, settings...)
	script = append(script,
		fmt.Sprintf("open -u %s,%s %s", v.user, v.password, v.url("")),
		"ls "+listedDir,
		fmt.Sprintf("get %s -o %s", DownloadPath, v.downloaded),
		fmt.Sprintf("put %s -o %s", v.source, UploadPath))
	return []Invocation{{Args: []string{"lftp", "-c", strings.Join(script, "; ")}}}
}

// curlInvocations make curl use the address of a 227. By default it ignores that address and so hides
// faults of address translation.
func curlInvocations(v task) []Invocation {
	args := []string{"curl", "--verbose", "--silent", "--show-error", "--globoff", "--max-time", "20",
		"--no-ftp-skip-pasv-ip", "--user", v.user + ":" + v.password}
	switch v.mode {
	case PASV:
		args = append(args, "--disable-epsv")
	case EPSV:
		args = append(args, "--ftp-pasv")
	case PORT:
		args = append(args, "--ftp-port", "-", "--disable-eprt")
	case EPRT:
		args = append(args, "--ftp-port", "-")
	}
	with := func(more ...string) Invocation {
		return Invocation{Args: append(args[:len(args):len(args)],
			more...)}
	}
	return []Invocation{
		with(v.url(listedDir + "/")),
		with("--output", v.downloaded, v.url(DownloadPath)),
		with("--upload-file", v.source, v.url(UploadPath)),
	}
}

func ncftpInvocations(v task) []Invocation {
	way := map[Mode]string{PASV: "-F", PORT: "-E"}[v.mode]
	with := func(program string, more ...string) Invocation {
		return Invocation{Args: append([]string{program, way, "-d", "stdout", "-t", "10", "-r", "1",
			"-u", v.user, "-p", v.password, "-P", fmt.Sprint(v.address.Port())}, more...)}
	}
	host := v.address.Addr().String()
	return []Invocation{
		with("ncftpls", "-l", "ftp://"+host+"/"+listedDir+"/"),
		with("ncftpget", "-V", "-C", host, DownloadPath, v.downloaded),
		with("ncftpput", "-V", "-C", host, v.source, UploadPath),
	}
}

func tnftpInvocations(v task) []Invocation {
	way := "-p"
	if v.mode == PORT || v.mode == EPRT {
		way = "-A"
	}
	script := []string{"user " + v.user + " " + v.password}
	if v.mode == PASV || v.mode == PORT {
		script = append(script, "epsv4") // a switch that is on by default
	}
	script = append(script, "binary", "ls "+listedDir,
		fmt.Sprintf("get %s %s", DownloadPath, v.downloaded),
		fmt.Sprintf("put %s %s", v.source, UploadPath), "quit")
	return []Invocation{{
		Args: []string{"tnftp", "-n", "-v", "-d", way, v.address.Addr().String(),
			fmt.Sprint(v.address.Port())},
		Input: strings.Join(script, "\n") + "\n",
	}}
}

// Result is what a client has done.
type Result struct {
	logBefore int64 // the length of the server's log when the client started
	task
	client     Client
	Transcript string // all that the client printed, with its debug log
	Err        error  // of the first program that failed
}

// curlBug is what curl 7.88.1 prints when it reads uninitialised memory before it sends PORT (fixed in
// 8.0; curl's issue 10622). It is rare that this becomes an error.
const curlBug = "sa_addr inet_ntop() failed"

// RunClient runs a client's task on a host.
func RunClient(t *testing.T, h *lab.Host, c Client, s Server, m Mode, at netip.AddrPort) Result {
	t.Helper()
	labtest.Need(t, c.programs...)
	dir := t.TempDir()
	v := task{m, at, s.User, s.Password, filepath.Join(dir, "fetched"), filepath.Join(dir, "sent")}
	if err := os.WriteFile(v.source, Content(), 0o644); err != nil {
		t.Fatal(err)
	}
	out := Result{task: v, client: c, logBefore: s.prepare(t)}
	for _, step := range c.invocations(v) {
		text, err := Exec(t, h, dir, step)
		if err != nil && strings.Contains(text, curlBug) && len(findDataCommands(clientCommand, text)) == 0 {
			text, err = Exec(t, h, dir, step)
		}
		out.Transcript += text
		if err != nil {
			out.Err = err
			break
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("transcript of %s:\n%s", c.Name, out.Transcript)
		}
	})
	return out
}

// Exec runs a program on a host and returns what it printed.
func Exec(t *testing.T, h *lab.Host, home string, s Invocation) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
	defer cancel()
	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.Input), &text, &text
	// Ignore the user's settings and an FTP proxy in the environment.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C"}
	cmd.Dir = home
	cmd.WaitDelay = harness.Timeout
	err := h.Run(cmd)
	return text.String(), err
}

// WantFiles asserts that the client has listed, downloaded and uploaded its files, byte by byte.
func (o Result) WantFiles(t *testing.T, s Server) {
	t.Helper()
	if o.Err != nil {
		t.Errorf("%s: %v", o.client.Name, o.Err)
	}
	if !strings.Contains(o.Transcript, ListedName) {
		t.Errorf("got no %q in the listing", ListedName)
	}
	for what, path := range map[string]string{"downloaded": o.downloaded,
		"uploaded": filepath.Join(s.Root, UploadPath)} {
		if err := sameContent(path); err != nil {
			t.Errorf("%s file: %v", what, err)
		}
	}
}

// sameContent returns how a file differs from Content. It reads in pieces: with the race detector, each new
// page of memory costs several more.
func sameContent(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, 64<<10)
	for at, rest := 0, Content(); ; {
		n, err := f.Read(piece)
		if !bytes.HasPrefix(rest, piece[:n]) {
			return fmt.Errorf("got other bytes, or more of them, between %d and %d; want %d bytes as sent",
				at, at+n, len(Content()))
		}
		at, rest = at+n, rest[n:]
		switch {
		case err == io.EOF && len(rest) > 0:
			return fmt.Errorf("got %d bytes; want %d", at, len(Content()))
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// TransfersPerRun is how many data connections a client's task takes: one for a listing, two for files.
const TransfersPerRun = 3

// WantModes asserts that every data connection was asked for in the client's mode, by the client's log
// and by the server's, and that the server got the gateway's address.
func (o Result) WantModes(t *testing.T, s Server, gateway netip.Addr) {
	t.Helper()
	o.WantClientModes(t)
	if s.log != "" {
		o.wantServerModes(t, s, gateway)
	}
}

// wantServerModes asserts by the server's log which commands it got, and that they name the gateway.
func (o Result) wantServerModes(t *testing.T, s Server, gateway netip.Addr) {
	t.Helper()
	commands := s.dataCommands(t, o.logBefore)
	o.wantAllInMode(t, "the server got", commands)
	for _, c := range commands {
		if got, ok := c.Address(); ok && got != gateway.String() {
			t.Errorf("the server got %s %s, which names %s; want %s", c.Mode, c.Argument, got, gateway)
		}
	}
}

// clientCommand finds the commands in the debug logs of curl ("> PASV"), lftp and tnftp ("---> PASV")
// and ncftp ("Cmd: PASV").
var clientCommand = regexp.MustCompile(`(?m)(?:> |^Cmd: )(PASV|EPSV|PORT|EPRT)\b(.*)$`)

// WantClientModes asserts that the client asked for every data connection in its mode.
func (o Result) WantClientModes(t *testing.T) {
	t.Helper()
	o.wantAllInMode(t, "the client sent", findDataCommands(clientCommand, o.Transcript))
}

func (o Result) wantAllInMode(t *testing.T, who string, commands []DataCommand) {
	t.Helper()
	if len(commands) != TransfersPerRun {
		t.Errorf("%s %d data commands, %v; want %d", who, len(commands), commands, TransfersPerRun)
	}
	for _, c := range commands {
		if c.Mode != o.mode {
			t.Errorf("%s %s %s; want %s", who, c.Mode, c.Argument, o.mode)
		}
	}
}

// passiveReply finds the address in a 227. ncftp prints it as "227: Entering".
var passiveReply = regexp.MustCompile(`(?m)\b227\b.*?(\d+,\d+,\d+,\d+),\d+,\d+`)

// WantAnnounced asserts which address the client got in the replies to PASV.
func (o Result) WantAnnounced(t *testing.T, want netip.Addr) {
	t.Helper()
	replies := passiveReply.FindAllStringSubmatch(o.Transcript, -1)
	if o.mode != PASV {
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
