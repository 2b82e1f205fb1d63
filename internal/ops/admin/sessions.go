package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// Filter selects sessions. The zero value selects all that run.
type Filter struct {
	Forward string         // only of this forward; empty: of all
	Client  netip.Prefix   // only from there; not valid: from everywhere
	State   sessions.State // only in this state; empty: in every state
	Ended   bool           // also those that have ended
}

// path returns the path of the request for the selected sessions.
func (f Filter) path() string {
	q := url.Values{}
	if f.Forward != "" {
		q.Set("forward", f.Forward)
	}
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	if f.State != "" {
		q.Set("state", string(f.State))
	}
	if f.Ended {
		q.Set("ended", "true")
	}
	if len(q) == 0 {
		return sessionsPath
	}
	return sessionsPath + "?" + q.Encode()
}

// states is the words that a filter accepts for a state.
var states = []string{
	string(sessions.StateConnecting), string(sessions.StateGreeting), string(sessions.StateLogin),
	string(sessions.StateIdle),
	string(sessions.StateCommand), string(sessions.StateTransfer), string(sessions.StateThrough),
	string(sessions.StateData), string(sessions.StateEnded),
}

// parseFilter reads what Filter.path writes. Unknown parameters are an error: a filter without effect
// misleads.
func parseFilter(query string) (Filter, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Filter{}, fmt.Errorf("the query cannot be read")
	}
	var f Filter
	for key, given := range values {
		if len(given) > 1 {
			return Filter{}, fmt.Errorf("%q is given %d times", key, len(given))
		}
		text := given[0]
		switch key {
		case "forward":
			f.Forward = text
		case "client":
			if f.Client, err = forward.ParseClient(text); err != nil {
				return Filter{}, err
			}
		case "state":
			if !slices.Contains(states, text) {
				return Filter{}, fmt.Errorf("no state %q: there are %s", text, strings.Join(states, ", "))
			}
			f.State = sessions.State(text)
		case "ended":
			if f.Ended, err = strconv.ParseBool(text); err != nil {
				return Filter{}, fmt.Errorf("ended %q: want true or false", text)
			}
		default:
			return Filter{}, fmt.Errorf("no filter %q: there are forward, client, state and ended", key)
		}
	}
	f.Ended = f.Ended || f.State == sessions.StateEnded
	return f, nil
}

func (f Filter) matches(s *sessions.Session) bool {
	return (f.Forward == "" || s.Forward == f.Forward) &&
		(!f.Client.IsValid() || f.Client.Contains(s.Client.Addr().Unmap())) &&
		(f.State == "" || s.State == f.State) &&
		(f.Ended || s.Ended.IsZero())
}

// selectSessions yields the sessions that the filter selects, in the order in which they began.
func selectSessions(source Source, f Filter) iter.Seq[sessions.Session] {
	return func(yield func(sessions.Session) bool) {
		running := source.Sessions(false) // first, or a session that ends now is in neither list
		var ended []sessions.Session
		known := map[string]bool{}
		if f.Ended {
			ended = slices.Collect(source.Sessions(true)) // the source keeps few
			for i := range ended {
				known[ended[i].ID] = true
			}
		}
		for s := range running {
			for len(ended) > 0 && !ended[0].Since.After(s.Since) {
				if f.matches(&ended[0]) && !yield(ended[0]) {
					return
				}
				ended = ended[1:]
			}
			if !known[s.ID] && f.matches(&s) && !yield(s) {
				return
			}
		}
		for i := range ended {
			if f.matches(&ended[i]) && !yield(ended[i]) {
				return
			}
		}
	}
}

func (h *handlers) sessions(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.RawQuery)
	if err != nil {
		writeError(w, &Error{Text: err.Error(), status: http.StatusBadRequest})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	_ = writeSessions(w, selectSessions(h.source, f)) // an error: the client has disconnected
}

// pieceSize is how much of a list is in memory at once, in bytes.
const pieceSize = 32 << 10

// writeSessions writes {"sessions": [...]} with one line for each session, without holding them all.
func writeSessions(w io.Writer, list iter.Seq[sessions.Session]) error {
	out := bufio.NewWriterSize(w, pieceSize)
	out.WriteString(`{"sessions": [`)
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	between := "\n"
	var one sessions.Session
	for one = range list {
		line.Reset()
		if err := encoder.Encode(&one); err != nil {
			return err
		}
		out.WriteString(between)
		if _, err := out.Write(bytes.TrimSuffix(line.Bytes(), []byte("\n"))); err != nil {
			return err // the client has disconnected
		}
		between = ",\n"
	}
	out.WriteString("\n]}\n")
	return out.Flush()
}
