package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/ops/page"
)

// The paths of the API, version 1.
const (
	statusPath   = "/v1/status"
	sessionsPath = "/v1/sessions"
	sessionPath  = sessionsPath + "/{id}"
	bansPath     = "/v1/bans"
	doctorPath   = "/v1/doctor"
	reloadPath   = "/v1/reload"
	healthPath   = "/v1/healthz"
	metricsPath  = "/metrics"
)

// handlers answer requests from a source.
type handlers struct {
	source Source
	log    *slog.Logger
}

// methods has the handler of each method that a path allows.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if do := m[method]; do != nil {
		do(w, r)
		return
	}
	allowed := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
	w.Header().Set("Allow", allowed)
	writeError(w, &Error{Text: r.Method + " is not possible here", Remedy: "there is " + allowed,
		status: http.StatusMethodNotAllowed})
}

func (h *handlers) paths(metrics http.Handler) map[string]methods {
	paths := map[string]methods{
		statusPath:   {http.MethodGet: h.status},
		sessionsPath: {http.MethodGet: h.sessions},
		sessionPath:  {http.MethodGet: h.explain, http.MethodDelete: h.kill},
		bansPath:     {http.MethodGet: h.bans, http.MethodPost: h.ban, http.MethodDelete: h.unban},
		doctorPath:   {http.MethodGet: h.doctor},
		reloadPath:   {http.MethodPost: h.reload},
		healthPath:   {http.MethodGet: h.health},
	}
	if metrics != nil {
		paths[metricsPath] = methods{http.MethodGet: metrics.ServeHTTP}
	}
	return paths
}

// routes has the paths of the API, and those of the page's files.
func (h *handlers) routes(metrics http.Handler, files []page.File) http.Handler {
	mux := http.NewServeMux()
	for _, f := range files {
		path := f.Path
		if path == "/" {
			path = "/{$}" // no other path
		}
		mux.Handle(path, methods{http.MethodGet: f.ServeHTTP})
	}
	for path, m := range h.paths(metrics) {
		mux.Handle(path, m)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writeError(w, noPath()) })
	return mux
}

func noPath() *Error {
	return &Error{Text: "there is no such path", Remedy: "see docs/api.md: the paths begin with /v1/",
		status: http.StatusNotFound}
}

func (h *handlers) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, h.source.Status().withoutNulls())
}

func (h *handlers) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
}

func (h *handlers) doctor(w http.ResponseWriter, r *http.Request) {
	found, err := h.source.Doctor(r.Context())
	if err != nil {
		writeError(w, &Error{Text: err.Error(), status: http.StatusServiceUnavailable})
		return
	}
	found.Findings = orEmpty(found.Findings)
	writeJSON(w, http.StatusOK, found)
}

func (h *handlers) explain(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !sessionID.MatchString(id) {
		writeError(w, noSession(id))
		return
	}
	found, known := h.source.Explain(id)
	if !known {
		writeError(w, noSession(id))
		return
	}
	found.Events = orEmpty(found.Events)
	writeJSON(w, http.StatusOK, found)
}

func (h *handlers) kill(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !sessionID.MatchString(id) {
		writeError(w, noSession(id))
		return
	}
	if err := h.source.Kill(id); err != nil {
		e := errorAnswer(err)
		if errors.Is(err, ErrNoSession) { // noSession says more
			e = noSession(id)
		}
		writeError(w, e)
		return
	}
	h.log.Info("session killed", "session", id, "by", peerOf(r.Context()).String())
	w.WriteHeader(http.StatusNoContent)
}

// sessionID matches a possible session identifier: others are not looked up.
var sessionID = regexp.MustCompile(`^[0-9a-zA-Z-]{1,40}$`)

func noSession(id string) *Error {
	e := &Error{Text: "there is no session of this name", Kind: ErrNoSession, status: http.StatusNotFound,
		Remedy: "ftpgate sessions --ended lists those that run and the last that have ended"}
	if sessionID.MatchString(id) {
		e.Text = "there is no session " + id
	}
	return e
}

// reload has no time limit: it resolves names and reads certificates.
func (h *handlers) reload(w http.ResponseWriter, r *http.Request) {
	h.log.Info("reload requested", "by", peerOf(r.Context()).String())
	err := h.source.Reload(r.Context())
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime)) // the first one is over
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		writeError(w, &Error{Text: "ftpgate is stopping", status: http.StatusServiceUnavailable})
	default:
		writeError(w, errorAnswer(err))
	}
}

// writeJSON writes a value as indented JSON.
func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(value) // an error: the client has disconnected
}

func writeError(w http.ResponseWriter, e *Error) { writeJSON(w, e.status, e) }
