package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

const (
	// minToken is the shortest token that cannot be guessed, in bytes: 96 bits in base64.
	minToken = 16
	maxToken = 1024
	// makeTokenCommand is how an operator makes a token.
	makeTokenCommand = "head -c 32 /dev/urandom | base64"
)

// ReadToken reads a token from a file, without the space around it. It must be a regular file of root or
// the caller that only its owner and its group can read: the group of ftpgate may use the socket anyway.
func ReadToken(file string) (string, error) {
	text, info, err := ReadSecret("token", file, maxToken, 0o027, ", and make a new token")
	if err != nil {
		return "", err
	}
	token, owner := strings.TrimSpace(text), info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && int(owner) != os.Geteuid():
		return "", fmt.Errorf("token file %s belongs to user %d: it must be root's, or of the user that "+
			"ftpgate runs as", file, owner)
	case len(token) < minToken:
		return "", fmt.Errorf("the token in %s has fewer than %d characters: make one with %s", file,
			minToken, makeTokenCommand)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("the token in %s has other than printable ASCII characters: make one with %s",
			file, makeTokenCommand)
	}
	return token, nil
}

// ReadSecret reads a regular file of at most this many bytes. Its mode must have none of the bits in others:
// the remedy is chmod, followed by instead, the remedy for a secret that other users could read. what names
// the secret in errors: "token".
func ReadSecret(what, file string, most int, others fs.FileMode, instead string) (
	text string, info fs.FileInfo, err error) {
	// O_NONBLOCK: it must not hang if the file is a pipe.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", nil, fmt.Errorf("read the %s: %w", what, err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return "", nil, fmt.Errorf("read the %s: %w", what, err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", nil, fmt.Errorf("%s file %s is not a regular file", what, file)
	case mode.Perm()&others != 0:
		return "", nil, fmt.Errorf("%s file %s has mode %04o, so that others can read or change it: "+
			"chmod 600 %[2]s%[4]s", what, file, mode.Perm(), instead)
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("read the %s: %w", what, err)
	case len(content) > most:
		return "", nil, fmt.Errorf("%s file %s has more than %d bytes", what, file, most)
	}
	return string(content), info, nil
}

// tokenHash is the server's copy of a token: all hashes have the same length.
type tokenHash [sha256.Size]byte

func hashToken(token string) *tokenHash {
	s := tokenHash(sha256.Sum256([]byte(token)))
	return &s
}

// matches reports whether the header Authorization has the token (RFC 6750 section 2.1). Its duration reveals
// nothing about the token.
func (s *tokenHash) matches(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	given := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(s[:], given[:]) == 1
}
