package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/gateway/bans"
)

func newCheck() *cobra.Command {
	o := &outputFormat{}
	cmd := withFile(&cobra.Command{
		Use:   "check [-c FILE]",
		Short: "Report every fault of a file",
		Long: `Report every fault of FILE at once, with line and column. For a valid file, print
how each forward handles FTPS, and why, with a warning where clients
could take each other's files. It needs no privilege and looks neither
at this host nor at the network.`,
	}, func(cmd *cobra.Command, file string, c *config.Config) error {
		return orFailed(printCheck(cmd.OutOrStdout(), file, c))
	})
	o.add(cmd, "docs/man/ftpgate.8.md")
	inText := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.json { // which has the faults, too
			return checkJSON(cmd.OutOrStdout(), cmd.Flag("config").Value.String())
		}
		return inText(cmd, args)
	}
	return cmd
}

func printCheck(w io.Writer, file string, c *config.Config) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s: OK, %s\n", file, finding.Plural(len(c.Forwards), "forward"))
	for _, f := range c.Forwards {
		way, why := f.FTPS()
		fmt.Fprintf(out, "  %s: FTPS %s: %s\n", f.Name, way, why)
		if risk, remedy := f.FTPSRisk(); risk != "" {
			fmt.Fprintf(out, "  %s: warning: %s: %s\n", f.Name, risk, remedy)
		}
		for _, w := range deniedServer(c, f) {
			fmt.Fprintf(out, "  %s: warning: %s: %s\n", f.Name, w.Text, w.Remedy)
		}
	}
	return out.Flush()
}

// deniedServer returns a warning if the file itself denies the address of a forward's server.
func deniedServer(c *config.Config, f forward.Forward) []finding.Finding {
	server, literal := f.Server.Addr()
	if !literal {
		return nil
	}
	refuses := func(a netip.Addr) bool {
		return slices.ContainsFunc(c.Deny.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	resolved := forward.Resolved{Forward: f, Server4: server, Servers: []netip.Addr{server}}
	return bans.Servers(refuses, []forward.Resolved{resolved})
}

// checkedFile is what check says in JSON.
type checkedFile struct {
	File     string           `json:"file"`
	OK       bool             `json:"ok"`
	Faults   []fileFault      `json:"faults"`
	Forwards []checkedForward `json:"forwards"` // none in a file with faults
}

type fileFault struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
}

type checkedForward struct {
	Name    string `json:"name"`
	Listen  string `json:"listen"`
	Server  string `json:"server"`
	FTPS    string `json:"ftps"`
	FTPSWhy string `json:"ftps_why"`
	Warning string `json:"warning,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

// checkJSON prints what a file is like as JSON. A file that cannot be read is an error as without.
func checkJSON(w io.Writer, file string) error {
	checked := checkedFile{File: file, Faults: []fileFault{}, Forwards: []checkedForward{}}
	c, err := config.Load(file)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			checked.Faults = append(checked.Faults, fileFault{f.Place.Line, f.Place.Column, f.Key, f.Text})
		}
	case err != nil:
		return failure{exitUsage, err}
	default:
		checked.OK = true
		for _, f := range c.Forwards {
			forward := checkForward(f)
			for _, w := range deniedServer(c, f) {
				if forward.Warning == "" {
					forward.Warning, forward.Remedy = w.Text, w.Remedy
				}
			}
			checked.Forwards = append(checked.Forwards, forward)
		}
	}
	if err := printValue(w, checked); err != nil {
		return orFailed(err)
	}
	if !checked.OK {
		return failure{status: exitUsage}
	}
	return nil
}

func checkForward(f forward.Forward) checkedForward {
	way, why := f.FTPS()
	risk, remedy := f.FTPSRisk()
	return checkedForward{Name: f.Name, Listen: f.Listen.String(), Server: f.Server.String(), FTPS: way,
		FTPSWhy: why, Warning: risk, Remedy: remedy}
}
