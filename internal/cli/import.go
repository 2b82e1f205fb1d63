package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer"
)

func newImport() *cobra.Command {
	o := &outputFormat{}
	tracking := forward.TrackingProxy.String()
	cmd := &cobra.Command{
		Use:   "import [flags] < FILE",
		Short: "Print the file that takes the place of hand-written rules",
		Long: `Read rules for FTP that you have by hand, and print the configuration file that
takes their place. Comments in it say from which line each part comes, what could not be
carried over and why, and what to delete from the old set-up. It changes nothing.

It finds out by itself what the rules are:
` + formatList(),
		Example: "  iptables-save | ftpgate import > ftpgate.toml\n" +
			"  nft -j list ruleset | ftpgate import\n" +
			"  ftpgate import < /etc/firewall.sh",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept, err := forward.ParseWord[forward.Tracking]("tracking", tracking)
			if err != nil || kept == forward.TrackingNone {
				return fmt.Errorf("--tracking is %q; want proxy or kernel", tracking)
			}
			return importRules(cmd, o, importer.Options{Kernel: kept == forward.TrackingKernel})
		},
	}
	cmd.Flags().StringVar(&tracking, "tracking", tracking,
		"where the kernel's helper tracks FTP now: `proxy`, or kernel to keep it")
	completeFlag(cmd, "tracking", cobra.FixedCompletions([]string{"proxy", "kernel"},
		cobra.ShellCompDirectiveNoFileComp))
	o.add(cmd, "docs/man/ftpgate.8.md")
	return cmd
}

// formatList returns the forms of rules, a line each.
func formatList() (list string) {
	for _, f := range importer.Formats() {
		list += "  " + f + "\n"
	}
	return list
}

// importRules reads the rules from the input, and prints what comes of them.
func importRules(cmd *cobra.Command, o *outputFormat, options importer.Options) error {
	if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return errors.New("import reads rules from its input. Usage: iptables-save | ftpgate import")
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), importer.MaxSize+1))
	if err != nil {
		return runFailure(fmt.Errorf("import: %w", err))
	}
	r, err := importer.Import(string(text), options)
	if err != nil {
		return failure{exitUsage, err}
	}
	if err := printImport(cmd.OutOrStdout(), o, r); err != nil {
		return orFailed(err)
	}
	if len(r.Forwards) == 0 {
		return runFailure(fmt.Errorf("import: found nothing in these rules that becomes a forward or an "+
			"outbound%s", seeReasons(r)))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "ftpgate: import: %s; not carried over: %d; to delete: %d\n",
		finding.Plural(len(r.Forwards), "forward"), len(r.Left), len(r.Deletions))
	return nil
}

func seeReasons(r *importer.Result) string {
	if len(r.Left) == 0 {
		return ""
	}
	return "; the output has the reasons"
}

// importedNote is what was not carried over, in JSON.
type importedNote struct {
	Line   int    `json:"line,omitempty"`
	Text   string `json:"text,omitempty"`
	Reason string `json:"reason"`
}

func printImport(w io.Writer, o *outputFormat, r *importer.Result) error {
	if !o.json {
		_, err := io.WriteString(w, r.String())
		return err
	}
	out := struct {
		Format    string         `json:"format"`
		Forwards  int            `json:"forwards"`
		File      string         `json:"file"`
		Left      []importedNote `json:"not_carried_over"`
		Deletions []string       `json:"to_delete"`
		Additions []string       `json:"to_add"`
	}{r.Format, len(r.Forwards), r.String(), []importedNote{}, []string{}, []string{}}
	for _, n := range r.Left {
		out.Left = append(out.Left, importedNote{n.Line, n.Text, n.Reason})
	}
	out.Deletions = append(out.Deletions, r.Deletions...)
	out.Additions = append(out.Additions, r.Additions...)
	return printValue(w, out)
}
