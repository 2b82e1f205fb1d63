package diagnose

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// passwordFile writes a password file with a mode.
func passwordFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := harness.WriteFile(t, "password", text)
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// The server decides who can log in. The password is nowhere in the output.
func TestDoctorUser(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	peers.ProFTPD(t, l.Server(), harness.Forward4.Server)
	file := writeConfig(t)
	d := runDoctor(t, l.Gateway(), "-c", file, "--user", peers.Account, "--password-file",
		passwordFile(t, peers.AccountPassword+"\n", 0o600), "archive")
	d.wantNothingWorse(0, "warning")
	d.wantFinding("server_login", "ok", `login as "demo" works`, "")
	d.wantFinding("server_pasv", "ok", "", "")
	if strings.Contains(d.text, peers.AccountPassword) {
		t.Errorf("got %s; want no password in it", d.text)
	}
	for _, user := range []string{peers.Account, "no-such-user"} {
		d := runDoctor(t, l.Gateway(), "-c", file, "--user", user, "--password-file",
			passwordFile(t, harness.Password, 0o600))
		d.wantNothingWorse(1, "warning", "server_login")
		d.wantFinding("server_login", "fault",
			fmt.Sprintf("the server refuses the user %q with this password: 530", user),
			"correct the name or the password")
		if strings.Contains(d.text, harness.Password) {
			t.Errorf("%s: got %s; want no password in it", user, d.text)
		}
	}
	d = runDoctor(t, l.Gateway(), "-c", file)
	d.wantNothingWorse(0, "warning")
	d.wantFinding("server_login", "info", "the server accepts no anonymous login", "--user")
}

// A file that cannot hold a password is a fault before anything is tried.
func TestDoctorWrongPassword(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{peers.AccountPassword, 0o640, "has mode 0640, so that others can read or change it: chmod 600 "},
		{peers.AccountPassword + "\nanother\n", 0o600, "has more than one line"},
		{strings.Repeat("x", 2000), 0o600, "has more than 1024 bytes"},
		{"\n", 0o600, "the password is empty"},
	} {
		stdout, stderr, status := harness.Run(t, l.Gateway(), "doctor", "--user", peers.Account,
			"--password-file", passwordFile(t, tt.text, tt.mode), "2121", "203.0.113.21")
		if status != 2 || stdout != "" || !strings.Contains(stderr, tt.want) ||
			strings.Contains(stderr, peers.AccountPassword) {
			t.Errorf("got exit status %d, %q, on stderr %q; want 2 and %q", status, stdout, stderr, tt.want)
		}
	}
}

// The terminal asks for the password without echo, wherever standard output goes.
func TestDoctorAsksPassword(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	peers.ProFTPD(t, l.Server(), harness.Forward4.Server)
	file := writeConfig(t)
	for _, tt := range []struct {
		name, typed string
		status      int
		stderr      string
	}{
		{"typed", peers.AccountPassword + "\r", 0, ""},
		{"Ctrl-C", "\x03", 1, "ftpgate: interrupted\n"},
		{"empty", "\r", 2, "ftpgate: the password is empty\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, tty := harness.NewTerminal(t, 80, 24)
			cmd := harness.Command("doctor", "--json", "-c", file, "--user", peers.Account)
			cmd.Stdin = tty
			cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true // file descriptor 0
			const question = "Password of demo for forward archive: "
			echoed := make(chan string)
			go func() {
				defer close(echoed)
				var text strings.Builder
				part := make([]byte, 4096)
				asked := false
				for {
					n, err := master.Read(part) // ends with EIO when the terminal is closed
					if err != nil {
						echoed <- text.String()
						return
					}
					text.Write(part[:n])
					if !asked && strings.HasSuffix(text.String(), question) {
						asked = true
						master.WriteString(tt.typed)
					}
				}
			}()
			stdout, stderr, status := harness.RunCommand(t, l.Gateway(), cmd)
			tty.Close()
			if status != tt.status || stderr != tt.stderr || (stdout == "") != (status != 0) {
				t.Errorf("got exit status %d, %q, on stderr %q; want %d, %q", status, stdout, stderr,
					tt.status, tt.stderr)
			}
			if got := <-echoed; strings.TrimSpace(got) != strings.TrimSpace(question) ||
				strings.Contains(stdout, peers.AccountPassword) {
				t.Errorf("got %q on the terminal, and %q; want the question alone, and no password", got,
					stdout)
			}
		})
	}
}
