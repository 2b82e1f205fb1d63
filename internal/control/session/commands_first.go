package session

import "time"

// commandsTime is how long the end of a client's data waits for a command that the client sent before it: the
// command has arrived, and only has to be read and written, which takes a busy machine a while.
const commandsTime = time.Second

// passCommands waits until the client's pending commands have been forwarded or are waiting for the server,
// at most commandsTime. It is called before the server learns that the client has ended its data: a client
// sends ABOR and closes the data connection right after it, and a server that saw the end first would take an
// aborted upload for a complete one.
func (s *Session) passCommands() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client.Idle() {
		return
	}
	late := false
	timer := time.AfterFunc(commandsTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	for before := s.commands; !late && s.commands == before && !s.commandWaits && !s.clientEnded &&
		s.phase != terminated; {
		s.changed.Wait()
	}
}
