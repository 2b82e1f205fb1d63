package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// exactArgs takes as many words as are named, and says which are missing or too many; a last name with
// dots takes one word or more.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("no %s: want %s", strings.Join(names[len(args):], " and no "), cmd.UseLine())
		}
		if more := strings.HasSuffix(names[len(names)-1], "..."); len(args) > len(names) && !more {
			return fmt.Errorf("%q is one word too many: want %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// noArgs is for commands that have flags only; a file is the word that is most often given to them.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.Flags().Lookup("config") != nil:
		return fmt.Errorf("%q is one word too many: a file is named with -c %s", args[0], args[0])
	}
	return fmt.Errorf("%q is one word too many", args[0])
}

// newHelp is cobra's help command, but for words that are no command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return onlySubcommands(of, rest)
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// onlySubcommands is for commands that have others below them.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // letters that are wrong
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		slices.Sort(near)
		return fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))
	}
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			known = append(known, c.Name())
		}
	}
	if len(known) == 0 {
		return fmt.Errorf("%q is one word too many", args[0])
	}
	return fmt.Errorf("unknown command %q: there are %s", args[0], strings.Join(known, ", "))
}
