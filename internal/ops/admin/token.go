package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

const (
	// minToken is the shortest token that nobody can guess, in bytes: 96 bits in base64.
	minToken = 16
	maxToken = 1024
	// makeTokenCommand is how an operator makes a token.
	makeTokenCommand = "head -c 32 /dev/urandom | base64"
)

// ReadToken reads a token from a file, without the space around it. It must be a regular file of root or
// the caller that only its owner and its group can read: the group of ftpgate may use the socket anyway.
func ReadToken(file string) (string, error) {
	// O_NONBLOCK: it must not hang if the file is a pipe.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", fmt.Errorf("token file %s is not a regular file", file)
	case mode.Perm()&0o027 != 0:
		return "", fmt.Errorf("token file %s has mode %04o, so that others can read or change it: chmod "+
			"600 %[1]s, and make a new token", file, mode.Perm())
	case owner != 0 && int(owner) != os.Geteuid():
		return "", fmt.Errorf("token file %s belongs to user %d: it must be root's, or of the user that "+
			"ftpgate runs as", file, owner)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	switch {
	case len(text) > maxToken:
		return "", fmt.Errorf("token file %s has more than %d bytes", file, maxToken)
	case len(token) < minToken:
		return "", fmt.Errorf("the token in %s has fewer than %d characters: make one with %s", file,
			minToken, makeTokenCommand)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("the token in %s has other than printable ASCII characters: make one with %s",
			file, makeTokenCommand)
	}
	return token, nil
}

// tokenHash is what the server keeps of a token: all hashes are equally long.
type tokenHash [sha256.Size]byte

func hashToken(token string) *tokenHash {
	s := tokenHash(sha256.Sum256([]byte(token)))
	return &s
}

// matches reports whether the header Authorization has the token (RFC 6750 section 2.1). Its duration says
// nothing about the token.
func (s *tokenHash) matches(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	given := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(s[:], given[:]) == 1
}
