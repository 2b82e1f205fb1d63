// Package page is what a browser gets at the admin address: one page of HTML, CSS and JavaScript, which shows
// what the admin API answers.
//
// It contains no data, and so needs no token: the page asks the API, like any other client. Nothing in it
// comes from elsewhere, and its policy (CSP) lets the browser load nothing else.
package page

import (
	"bytes"
	"embed"
	"net/http"
	"strings"
)

//go:embed page.html page.css icon.svg *.js
var files embed.FS

// File is one file of the page. It answers GET and HEAD.
type File struct {
	Path    string // of its URL
	kind    string // its media type
	content []byte
}

// mediaTypes has the media type of each file, by the end of its name.
var mediaTypes = map[string]string{
	"html": "text/html; charset=utf-8",
	"css":  "text/css; charset=utf-8",
	"js":   "text/javascript; charset=utf-8",
	"svg":  "image/svg+xml",
}

// access is the attribute by which the page learns whether the API requires a token, so that it does not try
// without one: ftpgate logs that.
const access, needsToken = `data-access="open"`, `data-access="token"`

// Files returns the files of the page for an address whose API requires a token, or none.
func Files(token bool) []File {
	names, err := files.ReadDir(".")
	if err != nil {
		panic("page: " + err.Error()) // they are part of the program
	}
	var all []File
	for _, n := range names {
		content, err := files.ReadFile(n.Name())
		if err != nil {
			panic("page: " + err.Error())
		}
		_, ending, _ := strings.Cut(n.Name(), ".")
		f := File{Path: "/page/" + n.Name(), kind: mediaTypes[ending], content: content}
		if ending == "html" {
			f.Path = "/"
			if token {
				f.content = bytes.Replace(content, []byte(access), []byte(needsToken), 1)
			}
		}
		all = append(all, f)
	}
	return all
}

// policy lets the page load its own files and ask its own API, and nothing else. It makes the browser refuse
// text as markup or code, wherever that may come from (trusted types), and frames around the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP implements http.Handler.
func (f File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // a browser must not show the page of an older ftpgate
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.content) // an error: the client has disconnected
	}
}
