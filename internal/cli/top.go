package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ftpgate/internal/cli/top"
)

// The interval of top.
const (
	topInterval      = time.Second
	leastTopInterval = 200 * time.Millisecond
)

func newTop() *cobra.Command {
	var interval time.Duration
	cmd := withDaemons(&cobra.Command{
		Use:   "top",
		Short: "Watch sessions and forwards on the terminal",
		Long: `Show the sessions of each running ftpgate with their rates, and the forwards with
the health of their servers, until q. Sessions can be sorted, filtered, explained
and ended, and their clients banned: ? lists the keys. Without --socket it finds
every ftpgate of this user; root finds those of all users.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, a *adminFlags, _ []string) error {
		if interval < leastTopInterval {
			return failure{exitUsage, fmt.Errorf("--interval %s: want at least %s", interval,
				leastTopInterval)}
		}
		in, out, err := screenOf(cmd)
		if err != nil {
			return runFailure(err)
		}
		return a.top(ctx, interval, in, out)
	})
	cmd.Flags().DurationVar(&interval, "interval", topInterval, "how often to ask: a `TIME` like 2s")
	return cmd
}

// screenOf returns the terminal that a screen can be shown on.
func screenOf(cmd *cobra.Command) (in, out *os.File, err error) {
	in, inOK := cmd.InOrStdin().(*os.File)
	out, outOK := cmd.OutOrStdout().(*os.File)
	switch {
	case !inOK || !outOK || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())):
		return nil, nil, errors.New("top needs a terminal; \"ftpgate sessions\" lists the sessions " +
			"without one")
	case os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb":
		return nil, nil, fmt.Errorf("top cannot draw on this terminal (TERM=%s); "+
			"\"ftpgate sessions --watch\" lists the sessions there", os.Getenv("TERM"))
	}
	return in, out, nil
}

func (a *adminFlags) top(ctx context.Context, interval time.Duration, in, out *os.File) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p, err := newPoller(ctx, a)
	if err != nil {
		return err
	}
	defer p.close()
	defer stop() // before close, which waits for the questions
	state := top.NewState(!isUTF8(os.Getenv), top.Words{Explain: explainLines, Activity: activity,
		Health: healthText})
	return orFailed(top.Run(ctx, state, p, interval, in, out))
}

// isUTF8 reports whether the locale has UTF-8 for characters (locale(7)).
func isUTF8(getenv func(string) string) bool {
	locale := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}
