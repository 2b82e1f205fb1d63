package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
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
			if err := splitValue(cmd, args); err != nil {
				return err
			}
			return fmt.Errorf("unexpected argument %q. Usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// parsedArgs is exactArgs, followed by parse: what it finds wrong is said before any ftpgate is asked.
func parsedArgs(names []string, parse cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := exactArgs(names...)(cmd, args); err != nil {
			return err
		}
		return parse(cmd, args)
	}
}

// splitValue returns an error that names the flag whose value, or the rest of it, was given as an argument of
// its own; nil: there is none.
func splitValue(cmd *cobra.Command, args []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		for _, arg := range args {
			switch _, errBool := strconv.ParseBool(arg); {
			case err != nil:
			case f.NoOptDefVal != "" && errBool == nil:
				err = fmt.Errorf("--%s takes a value only after =: --%s=%s", f.Name, f.Name, arg)
			case f.Value.Type() == "PORTS" && isNumber(value) && isNumber(arg):
				err = fmt.Errorf("--%s takes both ports as one word: --%s %s-%s", f.Name, f.Name, value, arg)
			}
		}
	})
	return err
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
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
	if !ok {
		return err
	}
	name := unknown.GetSpecifiedName() // one letter if it is a shorthand
	if (name == "c" || name == "config") && cmd.Flags().Lookup("passive-ports") != nil {
		return fmt.Errorf("%w: %s reads no file; ftpgate run -c FILE does", err, cmd.Name())
	}
	if unknown.GetSpecifiedShortnames() != "" {
		return err
	}
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
	name = strings.ReplaceAll(name, "_", "-")
	near := slices.DeleteFunc([]string{config.Nearest(name, known)}, func(s string) bool { return s == "" })
	if len(near) == 0 {
		near = withWords(known, strings.Split(name, "-"))
	}
	if len(near) > 0 {
		return fmt.Errorf("%w: did you mean --%s?", err, strings.Join(near, " or --"))
	}
	return err
}

// withWords returns the flags whose names have all these words, of which there are at least two.
func withWords(flags, words []string) (found []string) {
	for _, f := range flags {
		missing := func(word string) bool { return !slices.Contains(strings.Split(f, "-"), word) }
		if len(words) > 1 && !slices.ContainsFunc(words, missing) {
			found = append(found, f)
		}
	}
	return found
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
