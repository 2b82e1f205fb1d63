package cli

import (
	"log/slog"
	"testing"

	"ftpgate/internal/config"
)

// Messages and remedies in the log of forward name its flags, and nothing else that looks like a key. What a
// peer says stays as it is.
func TestLogInFlagWords(t *testing.T) {
	replace := logInFlagWords(keyFlags(config.ForwardKeys()))
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
		"idle_time is 30s: clients lose their session": "--idle-time is 30s: clients lose their session",
		"forward published":                            "forward published",
	} {
		for _, key := range []string{"remedy", slog.MessageKey} {
			if got := replace(nil, slog.String(key, text)).Value.String(); got != want {
				t.Errorf("%s %q: got %q; want %q", key, text, got, want)
			}
		}
		if got := replace(nil, slog.String("reason", text)).Value.String(); got != text {
			t.Errorf("reason %q: got %q; want it as it is", text, got)
		}
	}
}
