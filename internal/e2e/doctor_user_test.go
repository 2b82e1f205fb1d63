package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

// passwordFile writes one of a mode.
func passwordFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := writeFile(t, "password", text)
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// Who logs in is known to the server alone; the password is nowhere in what is printed.
func TestDoctorUser(t *testing.T) {
	l := labtest.New(t)
	proFTPd(t, l.Server(), site4.server)
	file := archive(t)
	d := diagnose(t, l.Gateway(), "-c", file, "--user", account, "--password-file", passwordFile(t, passphrase+"\n", 0o600), "archive")
	d.wants(0, "warning")
	d.has("server_login", "ok", `the server lets "demo" in`, "")
	d.has("server_pasv", "ok", "", "")
	if strings.Contains(d.text, passphrase) {
		t.Errorf("got %s; want no password in it", d.text)
	}
	for _, user := range []string{account, "nobody-of-that-name"} {
		d := diagnose(t, l.Gateway(), "-c", file, "--user", user, "--password-file", passwordFile(t, scriptPassword, 0o600))
		d.wants(1, "warning", "server_login")
		d.has("server_login", "fault", fmt.Sprintf("the server refuses the user %q with this password: 530", user), "correct the name or the password")
		if strings.Contains(d.text, scriptPassword) {
			t.Errorf("%s: got %s; want no password in it", user, d.text)
		}
	}
	d = diagnose(t, l.Gateway(), "-c", file)
	d.wants(0, "warning")
	d.has("server_login", "info", "the server accepts no anonymous login", "--user")
}

// What cannot be a password ends it before anything is tried.
func TestDoctorWrongPassword(t *testing.T) {
	l := labtest.New(t)
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{passphrase, 0o640, "has mode 0640, so that others can read or change it: chmod 600 "},
		{passphrase + "\nanother\n", 0o600, "has more than one line"},
		{strings.Repeat("x", 2000), 0o600, "has more than 1024 bytes"},
		{"\n", 0o600, "the password is empty"},
	} {
		stdout, stderr, status := run(t, l.Gateway(), "doctor", "--user", account, "--password-file", passwordFile(t, tt.text, tt.mode), "2121", "203.0.113.21")
		if status != 2 || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, passphrase) {
			t.Errorf("got exit status %d, %q, on stderr %q; want 2 and %q", status, stdout, stderr, tt.want)
		}
	}
}

// The password is asked for at the terminal, which does not show it, whatever standard output is.
func TestDoctorAsksPassword(t *testing.T) {
	l := labtest.New(t)
	proFTPd(t, l.Server(), site4.server)
	file := archive(t)
	for _, tt := range []struct {
		name, typed string
		status      int
		stderr      string
	}{
		{"typed", passphrase + "\r", 0, ""},
		{"Ctrl-C", "\x03", 1, "ftpgate: interrupted\n"},
		{"empty", "\r", 2, "ftpgate: the password is empty\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, tty := newTerminal(t)
			cmd := command("doctor", "--json", "-c", file, "--user", account)
			cmd.Stdin = tty
			cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true // it is number 0 there
			const question = "Password of demo for forward archive: "
			shown := make(chan string)
			go func() {
				defer close(shown)
				var text strings.Builder
				part := make([]byte, 4096)
				asked := false
				for {
					n, err := master.Read(part) // ends with EIO, once nobody has the terminal
					if err != nil {
						shown <- text.String()
						return
					}
					text.Write(part[:n])
					if !asked && strings.HasSuffix(text.String(), question) {
						asked = true
						master.WriteString(tt.typed)
					}
				}
			}()
			stdout, stderr, status := finish(t, l.Gateway(), cmd)
			tty.Close()
			if status != tt.status || stderr != tt.stderr || (stdout == "") != (status != 0) {
				t.Errorf("got exit status %d, %q, on stderr %q; want %d, %q", status, stdout, stderr, tt.status, tt.stderr)
			}
			if got := <-shown; strings.TrimSpace(got) != strings.TrimSpace(question) || strings.Contains(stdout, passphrase) {
				t.Errorf("got %q on the terminal, and %q; want the question alone, and no password", got, stdout)
			}
		})
	}
}

// newTerminal returns both ends of a pseudoterminal; the test's end closes them.
func newTerminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}
