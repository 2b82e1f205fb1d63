package config

import (
	"slices"
	"strings"
)

// maxTypos is how many letters of a word may be wrong, missing or too many for a guess.
const maxTypos = 2

// Nearest returns the known word that s is or most likely misspells, and "" if none is near.
func Nearest(s string, known []string) string {
	if slices.Contains(known, s) {
		return s
	}
	best, fewest := "", maxTypos+1
	for _, word := range known {
		n := typos(strings.ToLower(s), word)
		if isSwapped(strings.ToLower(s), word) {
			n = 1
		}
		if n < fewest && n <= len(word)-2 { // at least two letters are right
			best, fewest = word, n
		}
	}
	return best
}

// typos returns the Levenshtein distance of a and b, or more than maxTypos if already their lengths are
// too far apart: a key may be as long as the file.
func typos(a, b string) int {
	if len(a)-len(b) > maxTypos || len(b)-len(a) > maxTypos {
		return maxTypos + 1
	}
	row := make([]int, len(b)+1) // distances of a[:i] to every b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// isSwapped reports whether two neighbours of a changed places in b, and nothing else differs.
func isSwapped(a, b string) bool {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return len(a) == len(b) && i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
