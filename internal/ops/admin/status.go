package admin

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/finding"
)

// Status is the state of a daemon. Its names in JSON are part of the API.
type Status struct {
	Version      string        `json:"version"`
	Build        string        `json:"build,omitempty"` // platform and Go version
	PID          int           `json:"pid"`
	Since        time.Time     `json:"since"`
	File         string        `json:"file,omitempty"`  // empty: the forward is from the command line
	Table        string        `json:"table,omitempty"` // of nftables; empty: ftpgate uses none
	Capabilities []string      `json:"capabilities"`    // sentences: what it can do on this host, or why not
	Forwards     []Forward     `json:"forwards"`        // in the order of the file
	Bans         int           `json:"bans"`            // addresses and prefixes that are banned now
	Denied       int           `json:"denied"`          // those that the file denies beside them
	Certificates []Certificate `json:"certificates"`
	Reload       *Reload       `json:"last_reload"` // null: none so far
	Conntrack    *Conntrack    `json:"conntrack"`   // null: unknown
	Warnings     []string      `json:"warnings"`    // not about a forward
}

// Forward is the state of a forward.
type Forward struct {
	Name      string       `json:"name"`
	Listen    string       `json:"listen"`
	Server    string       `json:"server"`    // as the file has it
	Addresses []netip.Addr `json:"addresses"` // of the server, now
	Tracking  string       `json:"tracking"`  // "proxy", "kernel" or "none"
	DataPath  string       `json:"data_path"` // "kernel" or "relay"
	FTPS      string       `json:"ftps"`      // the forward's mode, in one or two words
	FTPSWhy   string       `json:"ftps_why,omitempty"`
	*Counts                // nil with tracking none: ftpgate does not follow its sessions
	Problem   string       `json:"problem,omitempty"`
	Health    *Health      `json:"health"` // of the server; null: it was not asked
}

// Counts is what the sessions of a forward have done.
type Counts struct {
	Sessions  int   `json:"sessions"`       // that run
	Total     int64 `json:"sessions_total"` // since the start, running ones included
	Transfers int64 `json:"transfers"`      // completed since the start
	Failed    int64 `json:"failed"`
	Up        int64 `json:"bytes_up"` // from clients to the server, of files and listings
	Down      int64 `json:"bytes_down"`
	Clients   int   `json:"clients"` // addresses with a session now
	Refused   int64 `json:"refused"` // clients, commands and data connections, since the start
}

// Health is whether a server answers, by the checks of package health.
type Health struct {
	Answers bool      `json:"answers"`
	Since   time.Time `json:"since"`            // the first check with this result
	Checked time.Time `json:"checked"`          // the end of the last check
	Why     string    `json:"why,omitempty"`    // why it does not answer, in a sentence
	Remedy  string    `json:"remedy,omitempty"` // what to do
}

// Certificate is a certificate that the gateway presents, or whose expiry it knows.
type Certificate struct {
	Forward  string    `json:"forward"`
	File     string    `json:"file"`
	Subject  string    `json:"subject"`
	Expires  time.Time `json:"expires"`
	DaysLeft int       `json:"days_left"` // below zero: days since it expired
	Warning  string    `json:"warning,omitempty"`
}

// Reload is the result of the last reload.
type Reload struct {
	At    time.Time `json:"at"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
}

// Conntrack is the fill level of the kernel's connection tracking table, in entries.
type Conntrack struct {
	Count int64 `json:"count"`
	Max   int64 `json:"max"`
}

// Findings is the result of an examination of the host.
type Findings struct {
	At       time.Time         `json:"at"`       // of the examination, which may be older than the request
	Findings []finding.Finding `json:"findings"` // of the host first, then of each forward
}

// withoutNulls replaces nil lists by empty ones, which are [] in JSON and not null.
func (s Status) withoutNulls() Status {
	s.Capabilities, s.Warnings = orEmpty(s.Capabilities), orEmpty(s.Warnings)
	s.Certificates = orEmpty(s.Certificates)
	forwards := make([]Forward, len(s.Forwards))
	for i, f := range s.Forwards {
		f.Addresses = orEmpty(f.Addresses)
		forwards[i] = f
	}
	s.Forwards = forwards
	return s
}

func orEmpty[E any](list []E) []E {
	if list == nil {
		return []E{}
	}
	return list
}
