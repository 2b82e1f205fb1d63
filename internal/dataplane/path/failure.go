package path

import (
	"errors"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/passthrough"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relay"
)

// policyError is the error of a successful handshake that the VerifyConnection of a TLS configuration
// refused; package tlskeys returns it.
type policyError interface {
	error
	Reason() string     // for the client
	Remedy() string     // for the operator
	Code() verdict.Code // of the session's verdict
}

// relayFailure translates the error of a connection of the relay for the client, the operator and the
// session; nil stays nil.
func relayFailure(err error) *pinhole.Failure {
	if err == nil {
		return nil
	}
	f := &pinhole.Failure{Err: err, Fault: relayFault(err)}
	if handshake, ok := errors.AsType[*relay.HandshakeError](err); ok {
		f.ReplyCode, f.Reason = handshake.Reply()
		f.Remedy = policyRemedy(err)
	}
	if truncated, ok := errors.AsType[*relay.TruncatedError](err); ok {
		f.ReplyCode, f.Reason = truncated.Reply()
		f.Remedy = truncated.Remedy()
	}
	return f
}

// relayFault classifies how a data connection ended. An empty Code means that the session knows better.
func relayFault(err error) (f verdict.Fault) {
	if errors.Is(err, relay.ErrClosed) {
		return verdict.Fault{}
	}
	if dial, ok := errors.AsType[*relay.DialError](err); ok {
		f.Code, f.At, f.Err = verdict.CodeServerDataUnreachable, dial.To, dial.Err.Error()
		if dial.Side == relay.Client {
			f.Code = verdict.CodeClientDataUnreachable
		}
		return f
	}
	if handshake, ok := errors.AsType[*relay.HandshakeError](err); ok {
		_, f.Reason = handshake.Reply()
		f.Code, f.Err, f.Remedy = handshakeCode(handshake), handshake.Err.Error(), policyRemedy(err)
		return f
	}
	if truncated, ok := errors.AsType[*relay.TruncatedError](err); ok {
		f.Code, f.Reason, f.Remedy = verdict.CodeTruncated, truncated.Error(), truncated.Remedy()
		return f
	}
	f.Code, f.Err = verdict.CodeDataBroken, err.Error()
	if broken, ok := errors.AsType[*relay.BrokenError](err); ok {
		f.Reason, f.Err = "the client broke it", broken.Err.Error()
		if broken.Side == relay.Server {
			f.Reason = "the server broke it"
		}
	}
	return f
}

// policyRemedy returns what the operator can do about a handshake that was refused; empty: not known.
func policyRemedy(err error) string {
	if policy, ok := errors.AsType[policyError](err); ok {
		return policy.Remedy()
	}
	return ""
}

// handshakeCode returns the fault code for a failed TLS handshake of a data connection.
func handshakeCode(e *relay.HandshakeError) verdict.Code {
	if e.Side == relay.Server {
		return verdict.CodeServerDataTLS
	}
	if policy, refused := errors.AsType[policyError](e); refused {
		return policy.Code()
	}
	return verdict.CodeClientNoDataTLS
}

// openFailure is the error of a data connection that cannot be opened, for a forward with these passive
// ports.
func openFailure(err error, ports forward.PortRange) error {
	f := &pinhole.Failure{Err: err, Fault: verdict.Fault{Code: verdict.CodeNoDataPath, Err: err.Error()}}
	if errors.Is(err, port.ErrNone) {
		f.Fault = verdict.Fault{Code: verdict.CodeNoPortsLeft, Ports: ports}
	}
	return f
}

// passthroughFailure is the error of a passthrough that cannot be opened.
func passthroughFailure(err error) error {
	f := &pinhole.Failure{Err: err}
	if refused, ok := errors.AsType[*passthrough.Error](err); ok {
		f.ReplyCode, f.Reason = refused.Reply()
		f.Remedy = refused.Remedy()
	}
	if errors.Is(err, kernelpath.ErrOverlap) {
		f.ReplyCode, f.Remedy = 431, passthrough.RemedyOverlap // RFC 2228 section 5
		f.Reason = "ports of the gateway are forwarded to another server for you while another session lasts"
	}
	return f
}
