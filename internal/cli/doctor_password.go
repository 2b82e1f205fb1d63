package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/ops/admin"
)

// maxPassword bounds a password, in bytes.
const maxPassword = 1024

// askPassword gets the password for --user. It does not belong on a command line or into the environment:
// others can read both.
func (c *doctorCommand) askPassword(ctx context.Context) (err error) {
	switch {
	case c.user == "":
		return nil
	case c.passwordFile != "":
		c.password, err = readPassword(c.passwordFile)
	default:
		c.password, err = promptPassword(ctx, fmt.Sprintf("Password of %s for forward %s: ",
			terminal.Printable(c.user), terminal.Printable(c.forwards[0].Name)))
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, io.EOF): // Ctrl-C is read as an end
		return runFailure(errors.New("interrupted"))
	case err != nil:
		return failure{exitUsage, err}
	case c.password == "":
		return failure{exitUsage, errors.New("the password is empty")}
	}
	return nil
}

// readPassword reads a file of one line that only its owner can read.
func readPassword(file string) (string, error) {
	text, _, err := admin.ReadSecret("password", file, maxPassword, 0o077, "")
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("password file %s has more than one line: it holds the password and nothing "+
			"else", file)
	}
	return password, nil
}

// promptPassword asks at the session's terminal, also if standard input is another file. The error is io.EOF
// if the user gives up. It returns an error and restores the terminal if ctx is done.
func promptPassword(ctx context.Context, prompt string) (password string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("there is no terminal to ask for the password at: put it into a file, and " +
			"say --password-file FILE")
	}
	defer tty.Close()
	// Not with Fd: then a deadline would no longer end a read.
	raw, err := tty.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	control := func(f func(fd int) error) error {
		var ferr error
		err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) })
		return errors.Join(err, ferr)
	}
	var before *term.State
	if err := control(func(fd int) (err error) { before, err = term.MakeRaw(fd); return err }); err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	defer func() {
		err = errors.Join(err, control(func(fd int) error { return term.Restore(fd, before) }))
		if err != nil { // the prompt's line is still open
			fmt.Fprintln(tty)
		}
	}()
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Now()) })
	defer stop()
	return term.NewTerminal(tty, "").ReadPassword(prompt)
}
