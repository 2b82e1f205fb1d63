package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ftpgate/internal/config"
)

// exactArgs accepts one argument for each name, and reports missing and extra ones; a last name with dots
// accepts one argument or more.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			missing := strings.Join(names[len(args):], " and ")
			return fmt.Errorf("missing %s. Usage: %s", missing, cmd.UseLine())
		}
		for _, arg := range args {
			if name := strings.TrimLeft(arg, "–—‒"); name != arg {
				return fmt.Errorf("%q begins with a word processor's dash: write --%s", arg, name)
			}
		}
		if more := strings.HasSuffix(names[len(names)-1], "..."); len(args) > len(names) && !more {
			return fmt.Errorf("unexpected argument %q. Usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// noArgs is for commands that have only flags. Their most common wrong argument is a file.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.Flags().Lookup("config") != nil:
		return fmt.Errorf("unexpected argument %q: name a file with -c %s", args[0], args[0])
	}
	return unexpected(args[0])
}

// explainUnknownFlag adds the most likely meaning of an unknown flag.
func explainUnknownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedName() == "" {
		return err
	}
	name := unknown.GetSpecifiedName()
	if name == "port" && cmd.Flags().Lookup("passive-ports") != nil {
		return fmt.Errorf("%w: the ports stand in LISTEN and SERVER, like :2121 ftp.example.com:21", err)
	}
	var known []string
	meant := strings.NewReplacer("_", "-", ".", "-").Replace(config.Synonym(name))
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == meant || f.Name == strings.TrimSuffix(meant, "s") {
			name = f.Name
		}
		known = append(known, f.Name)
	})
	if near := config.Nearest(strings.ReplaceAll(name, "_", "-"), known); near != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return err
}

func unexpected(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

// newHelp is cobra's help command, but an error for words that are no command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", DisableFlagsInUseLine: true,
		ValidArgsFunction: completeCommands,
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

// completeCommands offers the commands below the one that the arguments name.
func completeCommands(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	of, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, c := range of.Commands() {
		if !c.Hidden {
			names = append(names, c.Name()+"\t"+c.Short)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
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
