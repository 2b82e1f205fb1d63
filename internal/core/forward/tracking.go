package forward

import (
	"fmt"
	"slices"
	"strings"
)

// Tracking is how the gateway follows the FTP dialogue of a forward.
type Tracking uint8

const (
	// TrackingProxy ends the control connection in ftpgate, which forwards the dialogue line by line.
	TrackingProxy Tracking = iota
	// TrackingKernel leaves the dialogue to the kernel's ftp helper (nf_conntrack_ftp, nf_nat_ftp).
	TrackingKernel
	// TrackingNone follows nothing: the kernel translates the server's passive ports one to one.
	TrackingNone
)

var trackingNames = []string{TrackingProxy: "proxy", TrackingKernel: "kernel", TrackingNone: "none"}

func (Tracking) words() []string { return trackingNames }

// String returns the word for t.
func (t Tracking) String() string { return wordOf(t) }

// DataPath is what carries the data connections of a forward with tracking proxy.
type DataPath uint8

const (
	// DataAuto uses the kernel if it can carry a connection, else the relay.
	DataAuto DataPath = iota
	// DataKernel translates data connections with nftables, and refuses those that it cannot translate.
	DataKernel
	// DataRelay accepts data connections in ftpgate and splices them. It needs no privilege.
	DataRelay
)

var dataPathNames = []string{DataAuto: "auto", DataKernel: "kernel", DataRelay: "relay"}

func (DataPath) words() []string { return dataPathNames }

// String returns the word for p.
func (p DataPath) String() string { return wordOf(p) }

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

func (ServerMode) words() []string { return serverModeNames }

// String returns the word for m.
func (m ServerMode) String() string { return wordOf(m) }

// Word is a value that the configuration writes as a word. Values are numbered from zero, the default.
type Word interface {
	~uint8
	fmt.Stringer
	words() []string // by value
}

// Words returns the words for the values of T, in the order of the values.
func Words[T Word]() []string { return slices.Clone(T(0).words()) }

// ParseWord reads one of the words for the values of T; key names the value in the error.
func ParseWord[T Word](key, s string) (T, error) {
	words := T(0).words()
	if i := slices.Index(words, s); i >= 0 {
		return T(i), nil
	}
	last := len(words) - 1
	return 0, fmt.Errorf("unknown %s %q: want %s or %s", key, s, strings.Join(words[:last], ", "),
		words[last])
}

// wordOf returns the word for a value, or its type and number if it has none.
func wordOf[T Word](v T) string {
	if words := v.words(); int(v) < len(words) {
		return words[v]
	}
	return fmt.Sprintf("%s(%d)", strings.TrimPrefix(fmt.Sprintf("%T", v), "forward."), v)
}
