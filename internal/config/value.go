package config

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// none stands for no value of a key that has a default; so does an empty string.
const none = "none"

// The functions below complete an entry of the table with what follows from the type of its value. Each
// takes a function that returns the field that the key sets.

// custom is a key with a parser of its own.
func custom(k Key, parse parseFunc) Key {
	k.parse = parse
	return k
}

// list is a key for an array; parse reads one element.
func list[T any](k Key, parse func(string) (T, error), field func(values) *[]T) Key {
	k.kind = unstable.Array
	k.parse = func(v values, text string) error {
		element, err := parse(text)
		if err == nil {
			*field(v) = append(*field(v), element)
		}
		return err
	}
	k.isSet = func(v values) bool { return len(*field(v)) > 0 }
	return k
}

// duration is a key for a time; the bounds are allowed. With math.MaxInt64 it has no upper bound.
func duration(k Key, implied, least, most time.Duration, field func(values) *time.Duration) Key {
	k.Default = shortTime(implied)
	k.bounds = fmt.Sprintf("%q to %q", shortTime(least), shortTime(most))
	if most == math.MaxInt64 {
		k.bounds = fmt.Sprintf("%q or more", shortTime(least))
	}
	k.Argument = "TIME"
	k.parse = func(v values, text string) (err error) {
		*field(v), err = parseTime(k.Name, text, least, most)
		return err
	}
	k.isSet = func(v values) bool { return *field(v) != 0 }
	return k
}

// off stands for a time at which nothing is to happen.
const off = "off"

// durationOrOff is a key for a time, or "off", which sets the field to 0.
func durationOrOff(k Key, implied, least, most time.Duration, field func(values) *time.Duration) Key {
	k = duration(k, implied, least, most, field)
	inBounds := k.parse
	k.parse = func(v values, text string) error {
		if text == off {
			*field(v) = 0
			return nil
		}
		if err := inBounds(v, text); err != nil {
			return fmt.Errorf("%w, or %q", err, off)
		}
		return nil
	}
	return k
}

func parseTime(key, text string, least, most time.Duration) (time.Duration, error) {
	v, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s %q: want a number with a unit, like \"30s\" or \"5m\"", key, text)
	case v < least:
		return 0, fmt.Errorf("%s %q: want %s or more", key, text, shortTime(least))
	case v > most:
		return 0, fmt.Errorf("%s %q: want %s or less", key, text, shortTime(most))
	}
	return v, nil
}

// number is a key for a number from 1 to most.
func number(k Key, implied, most int, field func(values) *int) Key {
	k.Default = strconv.Itoa(implied)
	k.bounds = fmt.Sprintf("1 to %d", most)
	k.Argument, k.kind = "N", unstable.Integer
	k.parse = func(v values, text string) error {
		n, err := strconv.Atoi(strings.ReplaceAll(text, "_", "")) // TOML has 20_000, too
		switch {
		case err != nil:
			return fmt.Errorf("%s %q: want a number from 1 to %d", k.Name, text, most)
		case n < 1 || n > most:
			return fmt.Errorf("%s %d: want a number from 1 to %d", k.Name, n, most)
		}
		*field(v) = n
		return nil
	}
	k.isSet = func(v values) bool { return *field(v) != 0 }
	return k
}

// boolean is a key for true or false; the value that is not implied sets the field.
func boolean(k Key, implied bool, field func(values) *bool) Key {
	k.Default, k.Example = strconv.FormatBool(implied), strconv.FormatBool(!implied)
	k.kind = unstable.Bool
	k.parse = func(v values, text string) error {
		if text != "true" && text != "false" {
			return fmt.Errorf("%s %q: want true or false", k.Name, text)
		}
		*field(v) = text != k.Default
		return nil
	}
	k.isSet = func(v values) bool { return *field(v) }
	return k
}

// choice is a key for one of two words; the one that is not implied sets the field.
func choice(k Key, implied, other string, field func(values) *bool) Key {
	k.Default, k.Example, k.words = implied, strconv.Quote(other), []string{implied, other}
	k.Argument = "WORD"
	k.parse = func(v values, text string) error {
		if text != implied && text != other {
			return k.unknownWord(text, fmt.Errorf("unknown %s %q: want %s or %s", k.Name, text, implied,
				other))
		}
		*field(v) = text == other
		return nil
	}
	k.isSet = func(v values) bool { return *field(v) }
	return k
}

// word is a key for one of the words for a value.
func word[T forward.Word](k Key, field func(values) *T) Key {
	k.words = forward.Words[T]()
	k.Default, k.Argument = k.words[0], "WORD"
	k.parse = func(v values, text string) (err error) {
		if *field(v), err = forward.ParseWord[T](k.Name, text); err != nil {
			err = k.unknownWord(text, err)
		}
		return err
	}
	k.isSet = func(v values) bool { return *field(v) != 0 }
	return k
}

// level is a key for how important lines of a log are; info is the default.
func level(k Key, field func(values) *slog.Level) Key {
	k.words, k.Default, k.Argument = []string{"info", "debug", "warn", "error"}, "info", "WORD"
	k.parse = func(v values, text string) error {
		if !slices.Contains(k.words, text) {
			return k.unknownWord(text, fmt.Errorf("unknown %s %q: want debug, info, warn or error", k.Name,
				text))
		}
		return field(v).UnmarshalText([]byte(text))
	}
	k.isSet = func(v values) bool { return *field(v) != slog.LevelInfo }
	return k
}

// unknownWord returns an error that names the word that text most likely misspells, and err if none is near.
func (k *Key) unknownWord(text string, err error) error {
	if near := Nearest(text, k.words); near != "" {
		return fmt.Errorf("unknown %s %q: did you mean %q?", k.Name, text, near)
	}
	return err
}

// ports is a key for a range of ports, whose name ends in "ports".
func ports(k Key, field func(values) *forward.PortRange) Key {
	k.Argument = "PORTS"
	k.parse = func(v values, text string) (err error) {
		if *field(v), err = forward.ParsePortRange(text); err != nil {
			return fmt.Errorf("%s%w", strings.TrimSuffix(k.Name, "ports"), err) // which begins with "ports"
		}
		return nil
	}
	k.isSet = func(v values) bool { return !field(v).IsEmpty() }
	return k
}

// file is a key for the name of a file. Parsing does not check that the file exists: that depends on the
// host.
func file(k Key, field func(values) *string) Key {
	k.Argument = "FILE"
	k.parse = func(v values, text string) error {
		if text == "" {
			return fmt.Errorf("%s is empty: name a file, like %s", k.Name, k.Example)
		}
		if err := checkPath(k.Name, text); err != nil {
			return err
		}
		*field(v) = text
		return nil
	}
	k.isSet = func(v values) bool { return *field(v) != "" }
	return k
}

// fileOrNone is a key for the name of a file, or none.
func fileOrNone(k Key, field func(values) *string) Key {
	k.Argument, k.Otherwise = "FILE", none
	k.parse = func(v values, text string) error {
		if err := checkPath(k.Name, text); err != nil {
			return err
		}
		*field(v) = orNone(text)
		return nil
	}
	return k
}

func checkPath(key, path string) error {
	if strings.ContainsRune(path, 0) {
		return fmt.Errorf("%s %q: a file name cannot have a NUL", key, path)
	}
	return nil
}

// orNone turns the word for no value into an empty string.
func orNone(s string) string {
	if s == none {
		return ""
	}
	return s
}
