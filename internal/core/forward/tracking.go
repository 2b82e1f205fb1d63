package forward

import (
	"fmt"
	"slices"
	"strings"
)

// Tracking is how the gateway follows the FTP dialogue of a forward.
type Tracking uint8

const (
	// TrackingProxy ends the control connection in ftpgate, which passes the dialogue on line by line.
	TrackingProxy Tracking = iota
	// TrackingKernel leaves the dialogue to the kernel's ftp helper (nf_conntrack_ftp, nf_nat_ftp).
	TrackingKernel
	// TrackingNone follows nothing: the kernel translates the server's passive ports one to one.
	TrackingNone
)

var trackingNames = []string{TrackingProxy: "proxy", TrackingKernel: "kernel", TrackingNone: "none"}

// String returns the word that ParseTracking reads.
func (t Tracking) String() string { return enumWord(trackingNames, t, "Tracking") }

// ParseTracking reads "proxy", "kernel" or "none".
func ParseTracking(s string) (Tracking, error) {
	return parseEnum[Tracking](trackingNames, s, "tracking")
}

// DataPath is what carries the data connections of a forward with tracking proxy.
type DataPath uint8

const (
	// DataAuto uses the kernel where it can carry a connection, and the relay elsewhere.
	DataAuto DataPath = iota
	// DataKernel translates data connections with nftables, and refuses those that it cannot translate.
	DataKernel
	// DataRelay accepts data connections in ftpgate and splices them. It needs no privilege.
	DataRelay
)

var dataPathNames = []string{DataAuto: "auto", DataKernel: "kernel", DataRelay: "relay"}

// String returns the word that ParseDataPath reads.
func (p DataPath) String() string { return enumWord(dataPathNames, p, "DataPath") }

// ParseDataPath reads "auto", "kernel" or "relay".
func ParseDataPath(s string) (DataPath, error) { return parseEnum[DataPath](dataPathNames, s, "data") }

// ServerMode is how a gateway with tracking proxy asks the server for data connections.
type ServerMode uint8

const (
	// ServerModeClient asks as the client asks: PASV for passive, PORT for active.
	ServerModeClient ServerMode = iota
	// ServerModePassive always asks for passive, for a server that cannot connect to the gateway. The
	// relay then connects an active client with the server.
	ServerModePassive
)

var serverModeNames = []string{ServerModeClient: "client", ServerModePassive: "passive"}

// String returns the word that ParseServerMode reads.
func (m ServerMode) String() string { return enumWord(serverModeNames, m, "ServerMode") }

// ParseServerMode reads "client" or "passive".
func ParseServerMode(s string) (ServerMode, error) {
	return parseEnum[ServerMode](serverModeNames, s, "server_mode")
}

// enumWord returns the word for a value, or its type and number if it has none.
func enumWord[T ~uint8](words []string, v T, typ string) string {
	if int(v) < len(words) {
		return words[v]
	}
	return fmt.Sprintf("%s(%d)", typ, v)
}

// parseEnum returns the value that a word stands for.
func parseEnum[T ~uint8](words []string, s, what string) (T, error) {
	if i := slices.Index(words, s); i >= 0 {
		return T(i), nil
	}
	last := len(words) - 1
	return 0, fmt.Errorf("unknown %s %q: want %s or %s",
		what, s, strings.Join(words[:last], ", "), words[last])
}
