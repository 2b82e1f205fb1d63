package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/ops/systemd"
)

// logFlags is how run and forward write their log. Those of forward are among the flags of its keys.
type logFlags struct {
	keys  []*keyFlag
	quiet bool
}

// addQuiet gives a command the flag that both have.
func (l *logFlags) addQuiet(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&l.quiet, "quiet", "q", false, "log only what is wrong: --log-level warn")
}

// addKeys gives a command the keys of the log as flags.
func (l *logFlags) addKeys(cmd *cobra.Command) {
	l.keys = slices.DeleteFunc(keyFlags(config.ForwardKeys()), func(k *keyFlag) bool {
		return k.Name != "log.format" && k.Name != "log.level"
	})
	addKeyFlags(cmd, l.keys)
}

// apply changes what the file says to what the flags say.
func (l *logFlags) apply(cmd *cobra.Command, c *config.Config) error {
	for _, k := range l.keys {
		for _, text := range k.given {
			err := c.Set(config.Value{Key: k.Name, Text: text})
			var faults config.Faults
			if errors.As(err, &faults) {
				return errors.New(inFlagWords(faults[0], l.keys))
			}
		}
	}
	if l.quiet {
		if cmd.Flags().Changed("log-level") {
			return errors.New("--quiet is --log-level warn: give one of them")
		}
		c.Log.Level = slog.LevelWarn
	}
	return nil
}

// logger writes records as the configuration says, one a line. It sends text to journald with the records'
// fields, and omits times if journald reads the lines. replace changes fields; nil: it does not.
func logger(w io.Writer, l config.Log, replace func([]string, slog.Attr) slog.Attr) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level, ReplaceAttr: replace}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	if isJournal(w) {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			if replace != nil {
				return replace(groups, a)
			}
			return a
		}
	}
	return slog.New(systemd.Handler(slog.NewTextHandler(w, options)))
}

// isJournal reports whether journald reads what is written to w: systemd names the device and inode of its
// stream, which a redirection changes (systemd.exec(5), $JOURNAL_STREAM).
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var stat syscall.Stat_t
	if syscall.Fstat(int(f.Fd()), &stat) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
