package systemd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

const (
	// identifier is the name that journald shows before a message.
	identifier = "ftpgate"
	// fieldPrefix distinguishes our fields from journald's own: FTPGATE_SESSION=12.
	fieldPrefix = "FTPGATE_"
	// maxFieldName is journald's limit (journal_field_valid in systemd's journal-file.c).
	maxFieldName = 64
)

// Handler returns fallback, or if journald reads standard error (JOURNAL_STREAM in systemd.exec(5)) a handler
// that sends journald records with fields: PRIORITY from the level, FTPGATE_KEY from each attribute
// (FTPGATE_GROUP_KEY within a group), and a MESSAGE in the form of slog.TextHandler. Fallback decides which
// levels are enabled, and gets the records that journald does not accept.
func Handler(fallback slog.Handler) slog.Handler {
	// A JOURNAL_STREAM that cannot be read is not that of our standard error.
	if ours, err := journal.StderrIsJournalStream(); err != nil || !ours || !journal.Enabled() {
		return fallback
	}
	return newHandler(fallback, journal.Send)
}

// sendFunc is journal.Send.
type sendFunc func(message string, priority journal.Priority, fields map[string]string) error

// handler sends records to journald.
type handler struct {
	*output
	text     slog.Handler      // writes attributes to output.attrs
	fields   map[string]string // of the attributes so far; never changed
	prefix   string            // of the names of further fields
	fallback slog.Handler
}

// output is shared by a handler and all handlers derived from it.
type output struct {
	send sendFunc
	// mu is held while a record is sent, too: when journald's queue is full, the library asks the kernel
	// again and again. Only one goroutine may do that, not one for each session.
	mu    sync.Mutex
	attrs bytes.Buffer // the attributes of one record, as text
}

func newHandler(fallback slog.Handler, send sendFunc) *handler {
	out := &output{send: send}
	options := &slog.HandlerOptions{Level: slog.Level(-1 << 10), ReplaceAttr: attributesOnly}
	return &handler{output: out, text: slog.NewTextHandler(&out.attrs, options), fields: map[string]string{},
		prefix: fieldPrefix, fallback: fallback}
}

// attributesOnly leaves out the attributes for which journald has fields.
func attributesOnly(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled asks the fallback.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.fallback.Enabled(ctx, level)
}

// Handle sends a record, or gives it to the fallback if that fails.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	fields := maps.Clone(h.fields)
	fields["SYSLOG_IDENTIFIER"] = identifier
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, h.prefix, a)
		return true
	})
	if err := h.deliver(ctx, r, fields); err != nil {
		return h.fallback.Handle(ctx, r)
	}
	return nil
}

// deliver composes the record's message and sends it.
func (h *handler) deliver(ctx context.Context, r slog.Record, fields map[string]string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attrs.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	message := r.Message
	if attrs := strings.TrimSpace(h.attrs.String()); attrs != "" {
		message += " " + attrs
	}
	if err := h.send(message, priority(r.Level), fields); err != nil {
		return fmt.Errorf("systemd: journald: %w", err)
	}
	return nil
}

// WithAttrs returns a handler whose records also have these attributes.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := maps.Clone(h.fields)
	for _, a := range attrs {
		addField(fields, h.prefix, a)
	}
	return &handler{h.output, h.text.WithAttrs(attrs), fields, h.prefix, h.fallback.WithAttrs(attrs)}
}

// WithGroup returns a handler whose further attributes belong to a group.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{h.output, h.text.WithGroup(name), h.fields, h.prefix + fieldName(name) + "_",
		h.fallback.WithGroup(name)}
}

// addField adds an attribute, or those of a group. The last one of a name counts.
func addField(fields map[string]string, prefix string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" { // a group without a name is inlined (slog.Handler)
			prefix += fieldName(a.Key) + "_"
		}
		for _, member := range value.Group() {
			addField(fields, prefix, member)
		}
		return
	}
	if name := prefix + fieldName(a.Key); a.Key != "" && len(name) <= maxFieldName {
		fields[name] = value.String()
	}
}

// fieldName converts a key to journald's form: capital letters, digits and underscores.
func fieldName(key string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, key)
}

// priority returns the level as a priority of syslog(3).
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
