package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
)

// outputFormat is the flag -o of the commands that show something: how they show it.
type outputFormat struct{ json bool }

// add gives a command the flag. reference is the document that says what is in the JSON.
func (o *outputFormat) add(cmd *cobra.Command, reference string) {
	cmd.Flags().VarP(o, "output", "o", "the `FORMAT`: text, or json ("+reference+")")
	completeFlag(cmd, "output",
		cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&o.json, "json", false, "the same as -o json")
	cmd.Flags().Lookup("json").Hidden = true
}

// String implements pflag.Value.
func (o *outputFormat) String() string {
	if o.json {
		return "json"
	}
	return "text"
}

// Set implements pflag.Value.
func (o *outputFormat) Set(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("there are text and json")
	}
	o.json = format == "json"
	return nil
}

// Type implements pflag.Value.
func (o *outputFormat) Type() string { return "FORMAT" }

// printValue prints a value as JSON.
func printValue(w io.Writer, value any) error {
	return terminal.PrintJSON(w, func(out io.Writer) error {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(value)
	})
}
