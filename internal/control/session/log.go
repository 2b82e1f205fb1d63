package session

import (
	"log/slog"
	"strconv"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/transcript"
	"ftpgate/internal/core/ftp"
)

// log writes a line about the session. It makes the attributes only when there is a line: a logger per
// session would take memory in every idle session.
func (s *Session) log(level slog.Level, msg string, attrs ...slog.Attr) {
	if !s.env.Log.Enabled(s.aborted, level) {
		return
	}
	s.env.Log.LogAttrs(s.aborted, level, msg, append(s.who(), attrs...)...)
}

// who returns the log attributes that identify the session.
func (s *Session) who() []slog.Attr {
	who := []slog.Attr{
		slog.String("forward", s.forward.Name),
		slog.String("session", s.record.ID()),
		slog.String("client", s.from.Client.String()),
	}
	if server := conn.AddrPort(s.server.RemoteAddr()); server.IsValid() {
		who = append(who, slog.String("server", server.String()))
	}
	if s.from.Balancer.IsValid() {
		who = append(who, slog.String("balancer", s.from.Balancer.String()))
	}
	return who
}

// traceCommand logs that a client's line arrived, with its verb if an RFC defines it. The rest may be a
// secret: a password that was typed as a command.
func (s *Session) traceCommand(line ftp.ClientLine) {
	if !s.env.Log.Enabled(s.aborted, slog.LevelDebug) {
		return
	}
	what := "(other)"
	if transcript.Known(line.Command.Verb) {
		what = line.Command.Verb
	}
	s.log(slog.LevelDebug, "line received", slog.String("from", "client"), slog.String("what", what))
}

// traceReply logs that a server's line arrived, with the reply's code if it begins or ends one. The rest may
// be a secret: a reply that repeats a password.
func (s *Session) traceReply(line ftp.ServerLine) {
	if !s.env.Log.Enabled(s.aborted, slog.LevelDebug) {
		return
	}
	what := "(other)"
	if line.First || line.Last {
		what = strconv.Itoa(line.Code)
	}
	s.log(slog.LevelDebug, "line received", slog.String("from", "server"), slog.String("what", what))
}
