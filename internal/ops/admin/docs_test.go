package admin

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/config"
	"ftpgate/internal/observe/sessions"
)

const (
	document = "../../../docs/api.md"
	// docToken and docTCP are the token file and the TCP address in the document.
	docToken = "$(cat /etc/ftpgate/token)"
	docTCP   = "http://192.168.5.2:9121"
)

var (
	fenced  = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	quoted  = regexp.MustCompile(`'([^']*)'|"([^"]*)"|(\S+)`)
	endings = strings.NewReplacer(`\n`, "\n")
)

func readDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocument: every command of the document gets the answer that stands below it.
func TestDocument(t *testing.T) {
	s := serve(t, fixed(), Options{Listen: freePort(t), TokenFile: tokenFile(t)}, nil)
	blocks := fenced.FindAllStringSubmatch(readDocument(t), -1)
	asked := map[string]bool{}
	for i, b := range blocks {
		if b[1] != "sh" || !strings.HasPrefix(b[2], "curl ") {
			continue
		}
		request, format := curl(t, s, strings.TrimSpace(b[2]))
		for path, m := range (&handlers{}).paths(fixedMetrics()) {
			if matched := m[request.Method] != nil && matches(path, request.URL.Path); matched {
				asked[request.Method+" "+path] = true
			}
		}
		if i+1 == len(blocks) || !slices.Contains([]string{"json", "text"}, blocks[i+1][1]) {
			t.Errorf("%s: no answer stands below it", b[2])
			continue
		}
		if got, want := answerTo(t, s, request, format), blocks[i+1][2]; got != want {
			t.Errorf("%sgot\n%s\nwant\n%s", b[2], got, want)
		}
	}
	for path, m := range (&handlers{}).paths(fixedMetrics()) {
		for method := range m {
			if !asked[method+" "+path] {
				t.Errorf("%s %s: no example asks for it", method, path)
			}
		}
	}
}

// matches reports whether a request's path belongs to the API.
func matches(path, of string) bool {
	before, variable := strings.CutSuffix(path, "{id}")
	rest, found := strings.CutPrefix(of, before)
	return found && (rest == "" && !variable || variable && rest != "" && !strings.Contains(rest, "/"))
}

// curl reads a command as curl does: it returns the request and the format of -w.
func curl(t *testing.T, s *serving, line string) (request *http.Request, format string) {
	t.Helper()
	var words []string
	for _, m := range quoted.FindAllStringSubmatch(strings.ReplaceAll(line, docToken, goodToken), -1) {
		words = append(words, m[1]+m[2]+m[3])
	}
	method, header := http.MethodGet, http.Header{}
	var target *url.URL
	socket := false
	for i := 1; i < len(words); i++ {
		next := func() string { i++; return words[i] }
		switch w := words[i]; {
		case w == "--unix-socket":
			if got := next(); got != config.DefaultSocket {
				t.Errorf("%s: got socket %s; want %s", line, got, config.DefaultSocket)
			}
			socket = true
		case w == "-X":
			method = next()
		case w == "-w":
			format = next()
		case w == "-H":
			key, value, _ := strings.Cut(next(), ": ")
			header.Set(key, value)
		case strings.HasPrefix(w, "http://"):
			var err error
			if target, err = url.Parse(strings.Replace(w, docTCP, "http://"+s.tcp(), 1)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		default:
			t.Fatalf("%s: this test does not know %s", line, w)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), method, target.String(), nil)
	if err != nil || socket != (target.Host == "localhost") {
		t.Fatalf("%s: %v; want localhost on the socket, and only there", line, err)
	}
	request.Header = header
	return request, format
}

// answerTo returns what curl would print.
func answerTo(t *testing.T, s *serving, request *http.Request, format string) string {
	t.Helper()
	c := s.client(t)
	with := &c.http
	if request.URL.Host != "localhost" {
		with = http.DefaultClient
		defer with.CloseIdleConnections()
	}
	answer, err := with.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if (answer.StatusCode != http.StatusOK) != (format != "") {
		t.Errorf("%s %s: got status %d; want the document to show it", request.Method, request.URL,
			answer.StatusCode)
	}
	return string(text) + endings.Replace(strings.ReplaceAll(format, "%{http_code}",
		fmt.Sprint(answer.StatusCode)))
}

// TestDocumentComplete: the document has every name of the API.
func TestDocumentComplete(t *testing.T) {
	text := readDocument(t)
	seen := map[reflect.Type]bool{}
	var visit func(of reflect.Type)
	visit = func(of reflect.Type) {
		switch {
		case of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer:
			visit(of.Elem())
		case of.Kind() == reflect.Struct && !seen[of] && strings.HasPrefix(of.PkgPath(), "ftpgate/"):
			seen[of] = true
			for f := range of.Fields() {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name != "" && name != "-" && !strings.Contains(text, "| `"+name+"` |") {
					t.Errorf("%s.%s: no table of the document has `%s`", of, f.Name, name)
				}
				visit(f.Type)
			}
		}
	}
	visit(reflect.TypeFor[Status]())
	visit(reflect.TypeFor[sessions.Explained]())
	visit(reflect.TypeFor[Findings]())
	visit(reflect.TypeFor[Error]())
	for _, word := range states {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("the document has no state `%s`", word)
		}
	}
	if len(seen) < 10 {
		t.Errorf("got %d types; want all of them", len(seen))
	}
}
