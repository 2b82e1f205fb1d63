package nftables

import (
	"strconv"
	"strings"
)

// token is a word, a string, a sign, or the end of a line.
type token struct {
	text   string
	line   int
	quoted bool
}

const newline = "\n"

// tokens splits a text. The second result is the handles that "nft -a" prints behind rules, by line.
func tokens(text string) ([]token, map[int]int) {
	var all []token
	handles := map[int]int{}
	line := 1
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\n':
			all = append(all, token{newline, line, false})
			line++
			i++
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n': // the line continues
			line++
			i += 2
		case c == ' ' || c == '\t' || c == '\r' || c == '\'' || c == '\\':
			i++
		case c == '#':
			end := i + lineLength(text[i:])
			comment := strings.TrimSpace(text[i+1 : end])
			if n, err := strconv.Atoi(strings.TrimPrefix(comment, "handle ")); err == nil {
				handles[line] = n
			}
			i = end
		case c == '"':
			end := i + 1
			for end < len(text) && text[end] != '"' && text[end] != '\n' {
				end++
			}
			all = append(all, token{text[i+1 : end], line, true})
			i = min(end+1, len(text))
			if end < len(text) && text[end] == '\n' {
				i = end
			}
		case strings.IndexByte("{},;()", c) >= 0:
			all = append(all, token{string(c), line, false})
			i++
		default:
			n := wordLength(text[i:])
			all = append(all, token{text[i : i+n], line, false})
			i += n
		}
	}
	return append(all, token{newline, line, false}), handles
}

func lineLength(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// wordLength returns how long the word is: signs of comparison are words of their own.
func wordLength(s string) int {
	const signs = "=!<>"
	n := 0
	if strings.IndexByte(signs, s[0]) >= 0 {
		for n < len(s) && strings.IndexByte(signs, s[n]) >= 0 {
			n++
		}
		return n
	}
	for n < len(s) && strings.IndexByte(" \t\r\n\"'\\{},;()#"+signs, s[n]) < 0 {
		n++
	}
	return max(n, 1)
}
