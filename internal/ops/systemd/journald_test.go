package systemd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

// sent is a record as it was sent.
type sent struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

// collect returns a logger, the records that it sends, and the output of its fallback. While fail is set,
// sending fails.
func collect(level slog.Level) (log *slog.Logger, records *[]sent, rest *bytes.Buffer, fail *error) {
	records, rest, fail = new([]sent), new(bytes.Buffer), new(error)
	h := newHandler(slog.NewTextHandler(rest, &slog.HandlerOptions{Level: level}),
		func(message string, priority journal.Priority, fields map[string]string) error {
			if *fail != nil {
				return *fail
			}
			*records = append(*records, sent{message, priority, fields})
			return nil
		})
	return slog.New(h), records, rest, fail
}

func TestRecords(t *testing.T) {
	for name, tt := range map[string]struct {
		log     func(*slog.Logger)
		message string
		fields  map[string]string
	}{
		"attributes": {
			func(l *slog.Logger) {
				l.Info("session", "forward", "plc", "session", 12, "idle",
					3*time.Second)
			},
			"session forward=plc session=12 idle=3s",
			map[string]string{"FTPGATE_FORWARD": "plc", "FTPGATE_SESSION": "12", "FTPGATE_IDLE": "3s"},
		},
		"none": {func(l *slog.Logger) { l.Info("ready") }, "ready", nil},
		"of the logger, and the last counts": {
			func(l *slog.Logger) { l.With("forward", "a", "data-path", "kernel").Info("x", "forward", "b") },
			"x forward=a data-path=kernel forward=b",
			map[string]string{"FTPGATE_FORWARD": "b", "FTPGATE_DATA_PATH": "kernel"},
		},
		"groups": {
			func(l *slog.Logger) {
				l.WithGroup("tls").With("leg", "client").Info("x", slog.Group("cert", "cn", "a b"),
					slog.Group("", "top", 1))
			},
			`x tls.leg=client tls.cert.cn="a b" tls.top=1`,
			map[string]string{"FTPGATE_TLS_LEG": "client", "FTPGATE_TLS_CERT_CN": "a b",
				"FTPGATE_TLS_TOP": "1"},
		},
		"errors, and lines that a peer has made up": {
			func(l *slog.Logger) { l.Info("x", "err", errors.New("a\nPRIORITY=0")) },
			`x err="a\nPRIORITY=0"`,
			map[string]string{"FTPGATE_ERR": "a\nPRIORITY=0"},
		},
		"keys that are no names of fields": {
			func(l *slog.Logger) { l.Info("x", "näme.2", 1, strings.Repeat("k", 60), 2, "msg", 3) },
			`x näme.2=1 ` + strings.Repeat("k", 60) + "=2",
			map[string]string{"FTPGATE_N_ME_2": "1", "FTPGATE_MSG": "3"},
		},
	} {
		log, records, _, _ := collect(slog.LevelInfo)
		tt.log(log)
		want := map[string]string{"SYSLOG_IDENTIFIER": "ftpgate"}
		maps.Copy(want, tt.fields)
		if len(*records) != 1 {
			t.Errorf("%s: got %d records; want one", name, len(*records))
			continue
		}
		got := (*records)[0]
		if got.message != tt.message || got.priority != journal.PriInfo || !maps.Equal(got.fields, want) {
			t.Errorf("%s: got %q, priority %d, %q; want %q, %d, %q", name, got.message, got.priority,
				got.fields,
				tt.message, journal.PriInfo, want)
		}
	}
}

// Attributes of a derived logger do not change the logger that it comes from.
func TestLoggersApart(t *testing.T) {
	log, records, _, _ := collect(slog.LevelInfo)
	base := log.With("forward", "a")
	base.With("session", 1).Info("one")
	base.With("client", "c").Info("two")
	if got := (*records)[1]; got.message != "two forward=a client=c" || got.fields["FTPGATE_SESSION"] != "" {
		t.Errorf("got %q with %q; want nothing of the first record", got.message, got.fields)
	}
}

func TestPriorities(t *testing.T) {
	log, records, _, _ := collect(slog.LevelDebug)
	levels := map[slog.Level]journal.Priority{
		slog.LevelDebug: journal.PriDebug, slog.LevelInfo: journal.PriInfo,
		slog.LevelWarn:  journal.PriWarning,
		slog.LevelError: journal.PriErr, slog.LevelError + 4: journal.PriErr, slog.LevelInfo +
			2: journal.PriInfo,
	}
	for level, want := range levels {
		log.Log(t.Context(), level, "x")
		if got := (*records)[len(*records)-1].priority; got != want {
			t.Errorf("%s: got priority %d; want %d", level, got, want)
		}
	}
	quiet, few, _, _ := collect(slog.LevelWarn)
	quiet.Info("x")
	if len(*few) != 0 {
		t.Errorf("got %v; want none: the fallback begins at WARN", *few)
	}
}

// The fallback gets the records that journald does not accept, unchanged.
func TestFallback(t *testing.T) {
	log, records, rest, fail := collect(slog.LevelInfo)
	*fail = unix.ECONNREFUSED
	log.With("forward", "a").WithGroup("g").Info("lost", "n", 1)
	if got := rest.String(); !strings.HasSuffix(got, "level=INFO msg=lost forward=a g.n=1\n") ||
		len(*records) != 0 {
		t.Errorf("got %q and %v; want the record in the fallback", got, *records)
	}
	*fail = nil
	rest.Reset()
	log.Info("here")
	if len(*records) != 1 || rest.Len() != 0 {
		t.Errorf("got %q and %v; want the record with journald again", rest, *records)
	}
}

// The library sends to a socket in place of journald's, in this test's own /run.
func TestJournald(t *testing.T) {
	labtest.Host(t)
	fallback := slog.NewTextHandler(os.Stderr, nil)
	if got := Handler(fallback); got != slog.Handler(fallback) {
		t.Errorf("without journald: got %T; want the fallback", got)
	}
	var stderr unix.Stat_t
	if err := unix.Fstat(2, &stderr); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stderr.Dev, stderr.Ino))
	if got := Handler(fallback); got != slog.Handler(fallback) {
		t.Errorf("journald's stream without its socket: got %T; want the fallback", got)
	}
	const path = "/run/systemd/journal/socket"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	journald := manager(bind(t, path))
	log := slog.New(Handler(fallback))
	log.Warn("refused", "session", 12, "reason", "two\nlines")
	value := binary.LittleEndian.AppendUint64([]byte("FTPGATE_REASON\n"), 9)
	checkDatagram(t, journald, "PRIORITY=4\nMESSAGE=refused session=12 reason=\"two\\nlines\"\n",
		"FTPGATE_SESSION=12\n", string(value)+"two\nlines\n", "SYSLOG_IDENTIFIER=ftpgate\n")

	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stderr.Dev, stderr.Ino+1))
	if got := Handler(fallback); got != slog.Handler(fallback) {
		t.Errorf("standard error led elsewhere: got %T; want the fallback", got)
	}
}

// checkDatagram wants one datagram of exactly these parts, the first one first.
func checkDatagram(t *testing.T, m manager, first string, others ...string) {
	t.Helper()
	got := m.received(t)
	if len(got) != 1 || !strings.HasPrefix(got[0], first) {
		t.Fatalf("got %q; want one datagram that begins %q", got, first)
	}
	rest := strings.TrimPrefix(got[0], first)
	for _, part := range others {
		if !strings.Contains(rest, part) {
			t.Errorf("got %q; want %q in it", got[0], part)
		}
		rest = strings.Replace(rest, part, "", 1)
	}
	if rest != "" {
		t.Errorf("got %q beyond what was logged", rest)
	}
}
