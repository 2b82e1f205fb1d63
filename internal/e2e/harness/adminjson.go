package harness

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// SessionInfo is a session in JSON. docs/api.md has the names.
type SessionInfo struct {
	ID, Forward, Tracking, Client, Gateway, Server, User string
	Since, Ended                                         time.Time
	State, Mode, Path                                    string
	TLS                                                  TLSInfo
	Transfer                                             *TransferInfo
	Totals                                               Totals
	Refused                                              int
	Verdict                                              struct{ Code, Text string }
}

// TLSInfo has the version of TLS on each leg; "" in clear.
type TLSInfo struct{ Client, Server string }

// Totals are the transfers and bytes of a session.
type Totals struct {
	Transfers, Failed int
	Up                int64 `json:"bytes_up"`
	Down              int64 `json:"bytes_down"`
}

// TransferInfo is a transfer: of a session, or a line in the transfer log.
type TransferInfo struct {
	Session, Forward, Client, Server, User, Command, Direction, File, Mode, Path string
	TLS                                                                          TLSInfo
	Began, Connected, Ended                                                      time.Time
	Bytes, Rate                                                                  int64
	Complete                                                                     bool
	Verdict                                                                      string
}

// DecodeJSON decodes JSON into value. A fault ends the test.
func DecodeJSON(t *testing.T, text string, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), value); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}

// StatusInfo is the part of the gateway's status that tests read.
type StatusInfo struct {
	PID      int
	File     string
	Forwards []struct {
		Name, Tracking  string
		Path            string `json:"data_path"`
		Sessions        int
		Total           int `json:"sessions_total"`
		Transfers       int
		Failed, Clients int
		Refused         int
		Up              int64 `json:"bytes_up"`
		Down            int64 `json:"bytes_down"`
	}
	Reload *struct {
		OK    bool
		Error string
	} `json:"last_reload"`
	Certificates []struct {
		Forward, File, Subject string
		Days                   int `json:"days_left"`
	}
	Warnings []string
}

// ReadTransferLog reads logs of transfers. Every line must be complete.
func ReadTransferLog(t *testing.T, files ...string) (all []TransferInfo) {
	t.Helper()
	for _, file := range files {
		for line := range strings.Lines(ReadFile(t, file)) {
			var one TransferInfo
			DecodeJSON(t, line, &one)
			if one.Session == "" || one.Ended.IsZero() || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s: got the line %q; want a session and an end in it", file, line)
			}
			all = append(all, one)
		}
	}
	return all
}
