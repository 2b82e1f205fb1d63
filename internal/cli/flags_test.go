package cli

import (
	"log/slog"
	"testing"
)

// Remedies in the log of forward name its flags, and nothing else that looks like a key.
func TestRemediesInFlagWords(t *testing.T) {
	replace := remediesInFlagWords(keyFlags())
	for text, want := range map[string]string{
		`set tls.server = "required" (tracking "proxy")`: `set --tls-server required (tracking "proxy")`,
		"ccc = true below [forward.tls] allows CCC":      "--tls-ccc=true allows CCC",
		"leave server_min_version out":                   "leave --tls-server-min-version out",
		"sysctl -w net.x=1, or a lower max_sessions": "sysctl -w net.x=1, or a lower " +
			"--max-sessions",
		"set the server's own range (pasv_min_port, PassivePorts)": "set the server's own range " +
			"(pasv_min_port, PassivePorts)",
		"the client's certificate is good; have the server trust it": "the client's certificate is good; " +
			"have the server trust it",
	} {
		if got := replace(nil, slog.String("remedy", text)).Value.String(); got != want {
			t.Errorf("%q: got %q; want %q", text, got, want)
		}
		if got := replace(nil, slog.String("reason", text)).Value.String(); got != text {
			t.Errorf("reason %q: got %q; want it as it is", text, got)
		}
	}
}
