package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/ops/admin"
)

// What the commands about bans print, and their exit statuses.
func TestBanCommands(t *testing.T) {
	socket := answering(t, &answers{bans: admin.Bans{Denied: 3, Bans: []ban.Ban{
		{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Since: bannedAt, Until: bannedAt.Add(time.Hour),
			Reason: "scans \x1b[31m"},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Since: bannedAt},
	}}})
	for _, test := range []struct {
		args   string
		out    string // on standard output, or, of a failure, in standard error
		status int
	}{
		{"ban 192.0.2.9", "192.0.2.9: banned until it is lifted, 1 session ended\n", 0},
		{"ban ::ffff:192.0.2.9 --for 90m", "192.0.2.9: banned until 2026-03-14 10:56:53, 1 session ended\n",
			0},
		{"ban 192.0.2.0/24 --for 3600 --reason spam",
			"192.0.2.0/24: banned until 2026-03-14 10:26:53, 1 session ended\n", 0},
		{"ban 192.0.2.9 --for=-1", "192.0.2.9: banned until it is lifted, 1 session ended\n", 0},
		{"ban 127.0.0.1", "127.0.0.1 cannot be banned: it is this host itself", 2},
		{"ban 0.0.0.0/0", "0.0.0.0/0 cannot be banned: it is wider than /8, and would shut out too many", 2},
		{"ban 192.0.2.9/24", `"192.0.2.9/24": the address has bits behind /24: want 192.0.2.0/24`, 2},
		{"ban 192.0.2.9 --for=", `for "": want a time`, 2},
		{"ban 192.0.2.9 --for 1h1", `for "1h1": want a time`, 2},
		{"ban 192.0.2.9 --for NaN", `for "NaN": want a time`, 2},
		{"ban example.com", `"example.com": want an address or a prefix`, 2},
		{"ban 192.0.2.9 --for soon",
			`for "soon": want a time like 24h, 90m or 3600 (seconds), from 1s to 87600h`,
			2},
		{"ban 192.0.2.9 --for 1d", `for "1d": want a time like 24h`, 2},
		{"ban 192.0.2.9 --for 100000h", `from 1s to 87600h`, 2},
		{"unban 192.0.2", `"192.0.2": want an address or a prefix`, 2},
		{"ban 192.0.2.9 --for 0", `for "0": want a time`, 2},
		{"ban 192.0.2.9 --reason " + strings.Repeat("x", 201), "the reason has 201 bytes: want at most 200",
			2},
		{"ban", "missing ADDRESS. Usage: ftpgate ban ADDRESS|PREFIX", 2},
		{"unban 192.0.2.7", "192.0.2.7: not banned any more\n", 0},
		{"unban 192.0.2.8", "192.0.2.8 is not banned", 1},
		{"unban 192.0.2.8 --if-banned", "", 0},
		{"bans", "192.0.2.7: banned since 2026-03-14 09:26:53, until 2026-03-14 10:26:53: scans \\x1b[31m\n" +
			"2001:db8::/32: banned since 2026-03-14 09:26:53, until it is lifted\n" +
			"deny in the file has 3 more\n", 0},
		{"bans --json", "\"denied\": 3\n", 0},
	} {
		var out strings.Builder
		name, rest, _ := strings.Cut(test.args, " ")
		args := append([]string{name, "--socket", socket}, strings.Fields(rest)...)
		var errs strings.Builder
		status := Main(args, strings.NewReader(""), &out, &errs)
		got := out.String()
		if test.status != 0 {
			got = errs.String()
		}
		if exact := test.status == 0 && name+rest != "bans--json"; status != test.status ||
			exact && got != test.out || !strings.Contains(got, test.out) {
			t.Errorf("%s: got status %d, %q, %q; want %d, %q", test.args, status, out.String(), errs.String(),
				test.status, test.out)
		}
	}
}

func TestNoBans(t *testing.T) {
	socket := answering(t, &answers{})
	var out strings.Builder
	if Main([]string{"bans", "--socket", socket}, strings.NewReader(""), &out,
		&out); out.String() != "no client is banned\n" {
		t.Errorf("got %q; want no bans", out.String())
	}
}

// Who bans reads that the ban does not outlive ftpgate; who lifts one, what still refuses the client.
func TestBanWarnings(t *testing.T) {
	source := &answers{warnings: []string{"forward \"a\" suffers"}}
	socket := answering(t, source)
	source.bans.Bans = []ban.Ban{{Prefix: netip.MustParsePrefix("192.0.2.7/32")}}
	source.notKept, source.refused = "open x: no space left", "deny in the file has 192.0.2.0/24"
	for args, want := range map[string]string{
		"ban 192.0.2.9": "192.0.2.9: banned until it is lifted, 1 session ended\n" +
			"warning: the ban ends when ftpgate ends: open x: no space left\n" +
			"warning: forward \"a\" suffers\n",
		"unban 192.0.2.7": "192.0.2.7: the ban is lifted, but deny in the file has 192.0.2.0/24, " +
			"which still refuses clients\nwarning: the next start has the ban again: open x: no space left\n",
	} {
		var out strings.Builder
		name, rest, _ := strings.Cut(args, " ")
		if status := Main([]string{name, "--socket", socket, rest}, strings.NewReader(""), &out,
			&out); status != 0 || out.String() != want {
			t.Errorf("%s: got status %d, %q; want 0, %q", args, status, out.String(), want)
		}
	}
}

// What they print as JSON.
func TestBanCommandsJSON(t *testing.T) {
	socket := answering(t, &answers{bans: admin.Bans{Bans: []ban.Ban{
		{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Since: bannedAt}}}})
	for args, want := range map[string]string{
		"unban 192.0.2.7":             "{\n  \"prefix\": \"192.0.2.7/32\",\n  \"unbanned\": true\n}\n",
		"unban 192.0.2.8 --if-banned": "{\n  \"prefix\": \"192.0.2.8/32\",\n  \"unbanned\": false\n}\n",
		"ban 192.0.2.9": "{\n  \"prefix\": \"192.0.2.9/32\",\n  \"since\": \"" +
			bannedAt.Format(time.RFC3339) + "\",\n  \"ended_sessions\": 1\n}\n",
	} {
		var out strings.Builder
		status := Main(append(strings.Fields(args), "-o", "json", "--socket", socket), strings.NewReader(""),
			&out, &out)
		if status != 0 || out.String() != want {
			t.Errorf("%s: got status %d, %s; want %s", args, status, &out, want)
		}
	}
}
