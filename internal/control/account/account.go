// Package account reads the account that clients of an explicit proxy log in to the gateway itself with. It
// never writes or logs it.
package account

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Check returns a fault for each outbound whose account cannot be read.
func Check(forwards []forward.Forward) (faults []finding.Finding) {
	for _, f := range forwards {
		if f.Outbound == nil || f.Outbound.AccountFile == "" {
			continue
		}
		if _, err := Read(f.Outbound.AccountFile); err != nil {
			faults = append(faults, finding.Finding{Forward: f.Name, Key: "account_file",
				Text:   "the account of this gateway cannot be read: " + err.Error(),
				Remedy: "give account_file a file with one line, USER:PASSWORD, that ftpgate may read"})
		}
	}
	return faults
}

// Read reads a file with one line, USER:PASSWORD. Its error is for the operator, and has no text of the file.
func Read(path string) (dialogue.Account, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return dialogue.Account{}, err
	}
	user, password, both := strings.Cut(strings.TrimRight(string(text), "\r\n"), ":")
	switch {
	case !both || user == "" || password == "" || strings.ContainsAny(user+password, "\r\n\x00"):
		return dialogue.Account{}, fmt.Errorf("%s: %w", path, errors.New("want one line, USER:PASSWORD"))
	case strings.ContainsAny(user, "@ "):
		return dialogue.Account{}, fmt.Errorf("%s: %w", path,
			errors.New("the user must have no @ and no space"))
	case strings.Contains(password, "@"): // the last @ separates it from the server's password
		return dialogue.Account{}, fmt.Errorf("%s: %w", path, errors.New("the password must have no @"))
	}
	return dialogue.Account{User: user, Password: password}, nil
}
