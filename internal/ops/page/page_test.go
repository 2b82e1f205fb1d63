package page

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// file returns a file of the page, by its path.
func file(t *testing.T, path string) File {
	t.Helper()
	for _, f := range Files(false) {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("%s: not a file of the page", path)
	return File{}
}

// Every file has its type, and forbids the browser all that the page does not need.
func TestHeaders(t *testing.T) {
	for _, f := range Files(true) {
		for method, want := range map[string]int{http.MethodGet: len(f.content), http.MethodHead: 0} {
			w := httptest.NewRecorder()
			f.ServeHTTP(w, httptest.NewRequest(method, f.Path, nil))
			if got := w.Body.Len(); got != want {
				t.Errorf("%s %s: got %d bytes; want %d", method, f.Path, got, want)
			}
			for name, want := range map[string]string{
				"Content-Type": f.kind, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
				"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Cross-Origin-Resource-Policy": "same-origin", "Set-Cookie": "",
			} {
				if got := w.Header().Get(name); got != want || name == "Content-Type" && got == "" {
					t.Errorf("%s %s: got %s %q; want %q", method, f.Path, name, got, want)
				}
			}
			wantPolicy(t, w.Header().Get("Content-Security-Policy"))
		}
	}
}

func wantPolicy(t *testing.T, got string) {
	t.Helper()
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'",
		"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'",
		"require-trusted-types-for 'script'"} {
		if !strings.Contains("; "+got+";", "; "+want+";") {
			t.Errorf("got the policy %q; want %q in it", got, want)
		}
	}
	for _, never := range []string{"unsafe", "*", "data:", "http"} {
		if strings.Contains(got, never) {
			t.Errorf("got the policy %q; want no %q in it", got, never)
		}
	}
}

// The page learns whether it must ask for a token, and nothing else from ftpgate.
func TestToken(t *testing.T) {
	for token, want := range map[bool]string{false: access, true: needsToken} {
		for _, f := range Files(token) {
			if f.Path == "/" && strings.Count(string(f.content), want) != 1 {
				t.Errorf("token %t: the page has no %s", token, want)
			}
		}
	}
	page := string(file(t, "/").content)
	if strings.Contains(page[strings.Index(page, "<input id=\"token\""):][:200], "name=") {
		t.Error("the field of the token has a name: a form that is sent without JavaScript would show it")
	}
}

// reference finds where a file names another.
var reference = regexp.MustCompile(`(?:src|href)="([^"]*)"|from '([^']*)'|url\(([^)]*)\)|@import`)

// All that the page loads is in the program.
func TestNothingFromOutside(t *testing.T) {
	paths := map[string]bool{}
	for _, f := range Files(false) {
		paths[f.Path] = true
	}
	loaded := map[string]bool{"/": true}
	for _, f := range Files(false) {
		text := string(f.content)
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			name := strings.Replace(m[1]+m[2]+m[3], "./", "/page/", 1)
			loaded[name] = true
			if !paths[name] && !strings.HasPrefix(name, "#") {
				t.Errorf("%s loads %q; want only files of the page", f.Path, m[0])
			}
		}
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "") // a name: nobody loads it
		if at := strings.Index(text, "//"); strings.Contains(text, "://") {
			t.Errorf("%s names an address: %.60s", f.Path, text[at:])
		}
	}
	for path := range paths {
		if !loaded[path] {
			t.Errorf("nothing loads %s", path)
		}
	}
}

// Text of peers becomes text nodes only: there is no code that makes markup or code of text, and nothing that
// keeps a token.
func TestNoMarkupFromText(t *testing.T) {
	for _, f := range Files(false) {
		for _, never := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
			"DOMParser",
			"createContextualFragment", "setHTML", "eval(", "new Function", "srcdoc", "import(",
			"postMessage",
			"localStorage", "sessionStorage", "document.cookie", "indexedDB", "setTimeout('",
			"location.search"} {
			if strings.Contains(string(f.content), never) {
				t.Errorf("%s has %s", f.Path, never)
			}
		}
	}
	page := string(file(t, "/").content)
	for _, inline := range []string{"<style", " style=", "javascript:", "<script>", "<iframe", "<object",
		"<base"} {
		if strings.Contains(page, inline) {
			t.Errorf("the page has %s", inline)
		}
	}
	if found := regexp.MustCompile(`\son[a-z]+=`).FindString(page); found != "" {
		t.Errorf("the page has the handler%s", found)
	}
}

// Text can be read (WCAG 2.2 AA: 4.5 to 1; lines of the plot and dots 3 to 1), in light and dark.
func TestContrast(t *testing.T) {
	css := string(file(t, "/page/page.css").content)
	light, dark, _ := strings.Cut(css, "(prefers-color-scheme: dark)")
	light = light[:strings.Index(light, "\n}")]
	dark = dark[:strings.Index(dark, "\n}")]
	for theme, text := range map[string]string{"light": light, "dark": dark} {
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"text", "surface", 4.5}, {"text", "ground", 4.5}, {"text", "raised", 4.5},
			{"quiet", "surface", 4.5}, {"quiet", "ground", 4.5}, {"quiet", "raised", 4.5},
			{"quiet", "problem-ground", 4.5}, {"quiet", "good-ground", 4.5},
			{"accent", "surface", 4.5}, {"accent", "raised", 4.5}, {"problem", "surface", 4.5},
			{"problem", "problem-ground", 4.5}, {"text", "problem-ground", 4.5}, {"text", "good-ground", 4.5},
			{"warning", "surface", 4.5}, {"good", "surface", 4.5}, {"down", "surface", 4.5}, {"up",
				"surface", 3},
			{"on-accent", "accent", 4.5}, {"on-accent", "problem", 4.5},
		} {
			if got := contrast(t, text, pair.front, pair.back); got < pair.least {
				t.Errorf("%s, %s on %s: got %.2f to 1; want %.1f", theme, pair.front, pair.back, got,
					pair.least)
			}
		}
	}
}

// contrast returns the contrast of two of the colours that a style sheet names (WCAG 2.2).
func contrast(t *testing.T, css, front, back string) float64 {
	a, b := luminance(t, css, front), luminance(t, css, back)
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

func luminance(t *testing.T, css, name string) (sum float64) {
	t.Helper()
	m := regexp.MustCompile(fmt.Sprintf(`--%s: #([0-9a-f]{6});`, name)).FindStringSubmatch(css)
	if m == nil {
		t.Fatalf("no colour %s", name)
	}
	rgb, err := strconv.ParseUint(m[1], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
		c := float64(rgb>>(8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
