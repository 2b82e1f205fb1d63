package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// exactArgs accepts as many arguments as it has names, and says which are missing or too many; a last name
// with dots accepts one argument or more.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			missing := strings.Join(names[len(args):], " and ")
			return fmt.Errorf("missing %s. Usage: %s", missing, cmd.UseLine())
		}
		if more := strings.HasSuffix(names[len(names)-1], "..."); len(args) > len(names) && !more {
			return fmt.Errorf("unexpected argument %q. Usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// noArgs is for commands that have only flags. The most common argument that they get is a file.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.Flags().Lookup("config") != nil:
		return fmt.Errorf("unexpected argument %q: name a file with -c %s", args[0], args[0])
	}
	return unexpected(args[0])
}

func unexpected(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

// newHelp is cobra's help command, but an error for words that are no command.
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

// onlySubcommands is for commands that only group others.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong
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
		return unexpected(args[0])
	}
	return fmt.Errorf("unknown command %q: there are %s", args[0], strings.Join(known, ", "))
}
