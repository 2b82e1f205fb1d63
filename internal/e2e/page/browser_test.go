package page

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// browser is Debian's Chromium with one page, driven by its DevTools protocol over a pipe
// (chromedevtools.github.io/devtools-protocol, --remote-debugging-pipe).
type browser struct {
	t       *testing.T
	photos  string
	to      *os.File
	session string // of the page

	mu      sync.Mutex
	last    int
	answers map[int]chan message
	faults  []string // what the page's console says of faults, since the last time that faults were read
}

// message is an answer or an event of the protocol.
type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// startBrowser runs Chromium on a host until the test ends.
func startBrowser(t *testing.T, h *lab.Host) *browser {
	t.Helper()
	b := &browser{t: t, photos: photos(t), answers: map[int]chan message{}}
	theirs, to := pipe(t)
	from, theirOut := pipe(t)
	b.to = to
	cmd := exec.Command(chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, theirOut} // 3 and 4
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	theirOut.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.read(from)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		<-ended
	})
	b.openTab()
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// chromium returns the browser that scripts/test-peers has unpacked.
func chromium(t *testing.T) string {
	t.Helper()
	peers := os.Getenv("FTPGATE_PEERS")
	if peers == "" {
		peers = filepath.Join("..", "..", "..", ".peers")
	}
	path, err := filepath.Abs(filepath.Join(peers, "usr/lib/chromium/chromium-headless-shell"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(path); err != nil {
		t.Fatalf("%v: scripts/test-peers page unpacks it", err)
	}
	return path
}

// read passes answers to those who wait for them, until the browser ends.
func (b *browser) read(from *os.File) {
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			break
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if answer := b.answers[m.ID]; answer != nil {
			delete(b.answers, m.ID)
			answer <- m
		}
		b.noteFault(m)
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, answer := range b.answers {
		close(answer)
	}
	b.answers = nil
}

// noteFault keeps what a user would find in the browser's console: violations of the policy among them.
func (b *browser) noteFault(m message) {
	switch m.Method {
	case "Runtime.exceptionThrown":
		b.faults = append(b.faults, string(m.Params))
	case "Runtime.consoleAPICalled":
		b.faults = append(b.faults, string(m.Params))
	case "Log.entryAdded":
		b.faults = append(b.faults, string(m.Params))
	}
}

// do calls a method of the protocol for the page, and decodes its result.
func (b *browser) do(method string, params map[string]any, result any) {
	b.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	if b.answers == nil {
		b.mu.Unlock()
		b.t.Fatalf("%s: the browser has ended", method)
	}
	b.answers[id] = answer
	b.mu.Unlock()
	call := map[string]any{"id": id, "method": method, "params": params}
	if b.session != "" {
		call["sessionId"] = b.session
	}
	text, err := json.Marshal(call)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m, alive := <-answer:
		if !alive {
			b.t.Fatalf("%s: the browser has ended", method)
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
	case <-time.After(harness.Timeout):
		b.t.Fatalf("%s: no answer within %s", method, harness.Timeout)
	}
}

func (b *browser) openTab() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Accessibility"} {
		b.do(domain+".enable", nil, nil)
	}
	b.size(1440, 1000)
}

// load opens an address.
func (b *browser) load(url string) {
	b.t.Helper()
	var result struct{ ErrorText string }
	b.do("Page.navigate", map[string]any{"url": url}, &result)
	if result.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, result.ErrorText)
	}
	b.await("the page is loaded", `document.readyState === "complete"`)
}

// eval evaluates JavaScript in the page.
func (b *browser) eval(script string, value any) {
	b.t.Helper()
	var result struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.do("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true,
		"awaitPromise": true},
		&result)
	if result.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", script, result.ExceptionDetails)
	}
	if value != nil {
		if err := json.Unmarshal(result.Result.Value, value); err != nil {
			b.t.Fatalf("%s: got %s: %v", script, result.Result.Value, err)
		}
	}
}

// holds reports whether an expression is true.
func (b *browser) holds(script string) (is bool) {
	b.t.Helper()
	b.eval("Boolean("+script+")", &is)
	return is
}

// await waits until an expression is true. A failure shows the page's text.
func (b *browser) await(what, script string) {
	b.t.Helper()
	awaited := false
	defer func() {
		if !awaited {
			b.t.Logf("%s\n%s", b.text("body"), strings.Join(b.takeFaults(), "\n"))
		}
	}()
	harness.Await(b.t, what+": "+script, func() bool { return b.holds(script) })
	awaited = true
}

// text returns the text of the first element that a selector finds, as a user sees it.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector), &text)
	return text
}

// wantText expects texts in the first element that a selector finds.
func (b *browser) wantText(selector string, texts ...string) {
	b.t.Helper()
	got := b.text(selector)
	for _, want := range texts {
		if !strings.Contains(got, want) {
			b.t.Errorf("%s: got %q; want %q in it", selector, got, want)
		}
	}
}

// click presses the mouse on an element, wherever a user would have to.
func (b *browser) click(selector string) {
	b.t.Helper()
	var at struct{ X, Y float64 }
	b.eval(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect();
		return {x: r.x + r.width / 2, y: r.y + r.height / 2};
	})()`, selector), &at)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.do("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left",
			"clickCount": 1}, nil)
	}
}

// keyCodes has the keys that tests press.
var keyCodes = map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}

// press presses a key.
func (b *browser) press(key string) {
	b.t.Helper()
	down := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": keyCodes[key]}
	if key == "Enter" {
		down["text"] = "\r"
	}
	b.do("Input.dispatchKeyEvent", down, nil)
	b.do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key,
		"windowsVirtualKeyCode": keyCodes[key]}, nil)
}

// write types a text where the focus is.
func (b *browser) write(text string) {
	b.t.Helper()
	b.do("Input.insertText", map[string]any{"text": text}, nil)
}

// tabTo presses Tab until an element has the focus.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range 200 {
		b.press("Tab")
		if b.holds(fmt.Sprintf("document.activeElement?.matches(%q)", selector)) {
			return
		}
	}
	b.t.Fatalf("%s: Tab does not reach it", selector)
}

func (b *browser) size(width, height int) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height,
		"deviceScaleFactor": 1, "mobile": false}, nil)
}

// dark switches between the light colours and the dark ones.
func (b *browser) dark(on bool) {
	b.t.Helper()
	value := map[bool]string{true: "dark", false: "light"}[on]
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": value}, {"name": "prefers-reduced-motion",
			"value": "reduce"}}}, nil)
}

// photo takes a picture of what is seen; whole: of the whole page.
func (b *browser) photo(name string, whole bool) {
	b.t.Helper()
	var shot struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &shot)
	picture, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.photos, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// takeFaults returns the faults so far, and forgets them.
func (b *browser) takeFaults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.faults
	b.faults = nil
	return faults
}

// wantNoFaults expects an empty console; expected is what may be there.
func (b *browser) wantNoFaults(expected ...string) {
	b.t.Helper()
	for _, f := range b.takeFaults() {
		known := false
		for _, e := range expected {
			known = known || strings.Contains(f, e)
		}
		if !known {
			b.t.Errorf("the console has %s; want nothing", f)
		}
	}
}
