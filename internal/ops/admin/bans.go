package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
)

// Bans is who is banned.
type Bans struct {
	Bans   []ban.Ban `json:"bans"`   // in the order of their prefixes
	Denied int       `json:"denied"` // how many addresses and prefixes the file denies beside them
}

// Banned is the answer to a request for a ban.
type Banned struct {
	ban.Ban
	Ended   int    `json:"ended_sessions"`     // that came from there
	NotKept string `json:"not_kept,omitempty"` // why the ban ends with ftpgate; empty: it does not
	// Warnings say what the ban does that is hardly meant, in sentences.
	Warnings []string `json:"warnings,omitempty"`
}

// Unbanned is the answer to a request to lift a ban.
type Unbanned struct {
	Prefix netip.Prefix `json:"prefix"`
	// Refused says what still refuses addresses of the prefix: "deny in the file has 192.0.2.0/24"; empty:
	// nothing.
	Refused string `json:"still_refused,omitempty"`
	NotKept string `json:"not_kept,omitempty"` // why the next start has the ban again; empty: it does not
}

// BanRequest asks for a ban.
type BanRequest struct {
	Prefix netip.Prefix
	For    time.Duration // 0: until it is lifted
	Reason string        // for people, at most ban.MaxReason bytes; empty: none
}

// banPath returns the path of the request for a ban, or to lift one.
func (b BanRequest) path() string {
	q := url.Values{"address": {ban.Name(b.Prefix)}}
	if b.For != 0 {
		q.Set("for", b.For.String())
	}
	if b.Reason != "" {
		q.Set("reason", b.Reason)
	}
	return bansPath + "?" + q.Encode()
}

// parseBan reads what BanRequest.path writes. What it does not know is an error, as for a filter.
func parseBan(query string) (b BanRequest, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return BanRequest{}, errors.New("the query cannot be read")
	}
	for key, given := range values {
		switch {
		case len(given) > 1:
			return BanRequest{}, fmt.Errorf("%q is given %d times", key, len(given))
		case key == "address":
			b.Prefix, err = ParseBanned(given[0])
		case key == "for":
			b.For, err = ParseBanTime(given[0])
		case key == "reason":
			b.Reason, err = given[0], CheckReason(given[0])
		default:
			err = fmt.Errorf("no field %q: there are address, for and reason", key)
		}
		if err != nil {
			return BanRequest{}, err
		}
	}
	if !b.Prefix.IsValid() {
		return BanRequest{}, errors.New("no address: want address=192.0.2.7, or a prefix")
	}
	return b, nil
}

// ParseBanned reads the address or the prefix of a ban.
func ParseBanned(text string) (netip.Prefix, error) {
	p, err := forward.ParseClient(text)
	if p, errPrefix := netip.ParsePrefix(text); err != nil && errPrefix == nil && p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf(
			"%q: the address has bits behind /%d: want %s, or the address alone",
			text, p.Bits(), p.Masked())
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q: want an address or a prefix like 192.0.2.0/24", text)
	}
	return p, nil
}

// ParseBanTime reads how long a ban lasts: a duration such as 1h30m, or a number of seconds, as fail2ban has
// it. A negative number, which is fail2ban's word for a ban without end, is 0.
func ParseBanTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if _, errNumber := strconv.ParseFloat(text, 64); err != nil && errNumber == nil {
		if d, err = time.ParseDuration(text + "s"); err == nil && d < 0 {
			return 0, nil
		}
	}
	if err != nil || d < ban.MinTime || d > ban.MaxTime {
		return 0, fmt.Errorf("for %q: want a time like 24h, 90m or 3600 (seconds), from %s to %gh", text,
			ban.MinTime, ban.MaxTime.Hours())
	}
	return d.Round(time.Millisecond), nil
}

// CheckReason returns what is wrong with the reason of a ban, or nil.
func CheckReason(text string) error {
	switch {
	case len(text) > ban.MaxReason:
		return fmt.Errorf("the reason has %d bytes: want at most %d", len(text), ban.MaxReason)
	case strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		return errors.New("the reason has characters that cannot be printed")
	}
	return nil
}

func (h *handlers) bans(w http.ResponseWriter, _ *http.Request) {
	found := h.source.Bans()
	found.Bans = orEmpty(found.Bans)
	writeJSON(w, http.StatusOK, found)
}

func (h *handlers) ban(w http.ResponseWriter, r *http.Request) {
	b, err := parseBan(r.URL.RawQuery)
	if err != nil {
		writeError(w, &Error{Text: err.Error(), status: http.StatusBadRequest})
		return
	}
	banned, err := h.source.Ban(b)
	if err != nil {
		writeError(w, errorAnswer(err))
		return
	}
	until := "lifted"
	if !banned.Until.IsZero() {
		until = banned.Until.Local().Format(time.DateTime)
	}
	h.log.Info("address banned", "address", banned.Name(), "until", until,
		"reason", cmp.Or(banned.Reason, "none given"), "ended_sessions", banned.Ended,
		"by", peerOf(r.Context()).String())
	writeJSON(w, http.StatusOK, banned)
}

func (h *handlers) unban(w http.ResponseWriter, r *http.Request) {
	b, err := parseBan(r.URL.RawQuery)
	if err != nil {
		writeError(w, &Error{Text: err.Error(), status: http.StatusBadRequest})
		return
	}
	lifted, err := h.source.Unban(b.Prefix)
	if err != nil {
		writeError(w, errorAnswer(err))
		return
	}
	h.log.Info("ban lifted", "address", ban.Name(b.Prefix), "by", peerOf(r.Context()).String())
	writeJSON(w, http.StatusOK, lifted)
}
