package session

const (
	// loggedRefusals is how many refusals of a session have a line in the log: enough to see what the client
	// or the server does. The line "session ends" has the number of all.
	loggedRefusals = 10
	// maxRefusals is how many refusals end a session that has never logged in, and maxUserRefusals one of a
	// user, counted from the last complete transfer. Clients try a handful of things before they log in;
	// later some try the same thing, such as PASV over IPv6, before every transfer.
	maxRefusals     = 50
	maxUserRefusals = 1000
)

// refusals counts what was refused in a session.
type refusals struct {
	all   int
	inRow int // since the last complete transfer
}

func (r *refusals) add() {
	r.all++
	r.inRow++
}

// transferred notes a complete transfer.
func (r *refusals) transferred() { r.inRow = 0 }

// tooMany reports whether the session is to end.
func (r *refusals) tooMany(loggedIn bool) bool {
	return r.inRow >= maxUserRefusals || !loggedIn && r.inRow >= maxRefusals
}

// unlogged returns how many have no line in the log.
func (r *refusals) unlogged() int { return max(0, r.all-loggedRefusals) }
