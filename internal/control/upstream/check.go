package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/proxyprotocol"
)

const (
	// checkDialTime is how long a server may take to accept the connection of a check. A forward may ask for
	// less.
	checkDialTime = 5 * time.Second
	// quitTime is how long QUIT and its answer may take.
	quitTime = 2 * time.Second
)

// Check tests whether a forward's server answers: it connects, reads the greeting, begins TLS if the forward
// has TLS with the server, and sends QUIT. It never logs in. It returns nil if the server answers, else why
// not. ctx must have a deadline.
//
// With tracking none a server that sends nothing counts as answering: it may begin with TLS, and then waits
// for the client.
func Check(ctx context.Context, dial DialFunc, f forward.Resolved, keys Keys) *finding.Finding {
	var control *tls.Config
	if f.TLS.Server != forward.ServerTLSOff {
		var err error
		if control, _, err = keys.ForServer(f.Forward); err != nil {
			return &finding.Finding{Forward: f.Name, Text: err.Error()}
		}
	}
	f.Limits.Dial = min(f.Limits.OrDefault().Dial, checkDialTime)
	tcp, err := Dial(ctx, dial, f, f.ServerAddrs()[0], proxyprotocol.Header{}) // in the resolver's order
	if err != nil {
		return &finding.Finding{Forward: f.Name, Text: "no connection: " + err.Error(),
			Remedy: "see that the server runs, and that firewalls let this gateway reach it"}
	}
	server := &conn.Control{TCPConn: tcp}
	defer server.Close()
	stop := context.AfterFunc(ctx, server.Interrupt)
	defer stop()
	setup := &serverTLSSetup{conn: server, lines: ftp.NewLineReader(server, 0), keys: keys,
		handshake: f.Limits.Dial}
	if _, err = setup.greet(control, f.TLS.Server); err == nil {
		quit(setup)
		return nil
	}
	no, hasWords := errors.AsType[*Error](err)
	switch {
	case !hasWords:
		return &finding.Finding{Forward: f.Name, Text: err.Error()}
	case f.Tracking == forward.TrackingNone && no.Code == verdict.CodeServerSilent:
		return nil
	}
	return &finding.Finding{Forward: f.Name, Text: no.Reason, Remedy: no.Remedy}
}

// quit ends the session with QUIT, so that the server logs nothing unusual.
func quit(s *serverTLSSetup) {
	late := time.AfterFunc(quitTime, s.conn.Interrupt)
	defer late.Stop()
	_, _ = s.ask("QUIT") // the check is done
}
