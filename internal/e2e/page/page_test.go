package page

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
)

// hostile are names that peers choose: markup, code, quotes, and characters that change how others are seen.
var hostile = []struct{ name, shown string }{
	{`<img src=x onerror=alert(1)>`, `<img src=x onerror=alert(1)>`},
	{`"><script>alert(1)</script>`, `"><script>alert(1)</script>`},
	{`' onmouseover='alert(1)`, `' onmouseover='alert(1)`},
	{"javascript:alert(1)//${alert(1)}{{7*7}}", "javascript:alert(1)//${alert(1)}{{7*7}}"},
	{"gpj.exe\u202etxt\u2066.\u200f", `gpj.exe\u202etxt\u2066.\u200f`},
	{"\x1b[2J\x07bell\ttab", `\x1b[2J\x07bell\x09tab`},
	{"שלום مرحبا", "שלום مرحبا"},
	{"zero\u200bwidth\ufeff\U000e0041", `zero\u200bwidth\ufeff\U000e0041`},
	{strings.Repeat("long-name-", 24), "long-name-long-name-"},
}

// control is a client's control connection that a test scripts.
type control struct{ *harness.ControlConn }

func connect(t *testing.T, l *lab.Lab) control {
	t.Helper()
	c, err := l.Client().Dial(t.Context(), "tcp", harness.Gateway4)
	if err != nil {
		t.Fatal(err)
	}
	conn := control{harness.NewControlConn(t, "the client", c)}
	conn.Expect("220")
	return conn
}

func (c control) exchange(command, reply string) {
	c.Send("%s", command)
	c.Expect(reply)
}

// configure writes a file with two forwards, and returns its name. One server never answers.
func configure(t *testing.T, dir string) string {
	file := filepath.Join(dir, "ftpgate.toml")
	harness.OverwriteFile(t, file, fmt.Sprintf(`health = "5s"
[admin]
socket = %q
listen = %q
[[forward]]
name = "files"
listen = %q
server = "203.0.113.21"
[[forward]]
name = "old printer"
listen = "192.168.5.2:2122"
server = "203.0.113.21:2199"
`, filepath.Join(dir, "s"), harness.MetricsAddress, harness.Gateway4))
	return file
}

const address = "http://" + harness.MetricsAddress + "/"

// row is JavaScript for the row of the running session with a user.
func row(user string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#running tbody tr")]
		.find((r) => r.children[2].textContent.startsWith(%q))`, user)
}

// TestPage: the page of a running gateway shows a real transfer and hostile names, can be used with the
// keyboard alone, and outlives the gateway.
func TestPage(t *testing.T) {
	photos(t)
	l := peers.NewDemoLab(t, harness.Server4)
	dir := harness.ShortDir(t)
	file := configure(t, dir)
	start := func() *harness.Program {
		cmd := harness.Command("run", "-c", file)
		cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+filepath.Join(dir, "state"))
		return harness.StartCommand(t, l.Gateway(), cmd).AwaitReady()
	}
	program := start()
	download(t, l)
	for _, h := range hostile {
		c := connect(t, l)
		c.exchange("USER "+h.name, "331")
	}
	in := connect(t, l)
	in.exchange("USER demo", "331")
	in.exchange("PASS lab-only", "230")
	for _, h := range hostile {
		in.exchange("SIZE "+h.name, "450")
	}
	for range 12 { // sessions that have ended
		c := connect(t, l)
		c.exchange("USER somebody", "331")
		c.exchange("PASS wrong", "5")
		c.exchange("QUIT", "221")
		c.ExpectClose()
	}

	b := startBrowser(t, l.Gateway())
	b.dark(false)
	b.load(address)
	testShown(t, b)
	testKeyboard(t, b)
	testEnded(t, b)
	testLooks(b)
	b.wantNoFaults()

	program.Interrupt()
	b.await("the page says that nobody answers",
		`document.querySelector("#state").innerText.startsWith("No answer since")`)
	b.photo("silent", false)
	start()
	b.await("it goes on without a new load", `document.querySelector("#state").innerText === "Live"`)
	b.await("the sessions of the old one are gone",
		`document.querySelectorAll("#running tbody tr").length === 0`)
	b.wantText("#said", "has started again")
	b.wantNoFaults("net::ERR_CONNECTION")
}

// download runs curl, which retrieves a file slowly until the test ends.
func download(t *testing.T, l *lab.Lab) {
	t.Helper()
	// Small buffers: a client that reads slowly gets the file slowly, instead of a burst.
	for _, err := range []error{l.Client().WriteSysctl("net.ipv4.tcp_rmem", "4096 65536 131072"),
		l.Server().WriteSysctl("net.ipv4.tcp_wmem", "4096 65536 131072")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("curl", "--silent", "--show-error", "--output", "/dev/null", "--limit-rate", "300k",
		"ftp://demo:lab-only@"+harness.Gateway4+"/"+peers.LargeFile)
	if err := l.Client().Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
}

// testShown: sessions, the transfer and hostile names are text on the page.
func testShown(t *testing.T, b *browser) {
	t.Helper()
	b.await("the page is live", `document.querySelector("#state").innerText === "Live"`)
	b.await("the transfer is shown with its rate",
		row("demo")+`?.parentElement.innerText.match(/transfer.*B\/s.*↓ .*64MiB.bin/s)`)
	b.await("a rate of all", `/\d B\/s|[kM]B\/s/.test(document.querySelector("#tiles").innerText)`)
	b.await("the plot has points",
		`document.querySelector("#plot path.down")?.getAttribute("d").includes("L")`)
	b.await("a server's silence", `document.querySelector("#notices").innerText.includes("old printer")`)
	b.await("doctor's findings", `document.querySelector("#doctor-when").innerText.includes("passed")`)
	for _, h := range hostile {
		b.await("the user "+h.name, row(h.shown))
	}
	b.wantNoMarkup()
	b.wantText("#forwards", "files", "old printer", "silent for", "answers for")
	b.wantText("#access", "Read only")
	if b.holds(`[...document.querySelectorAll("#kill, #ban, #lock")].some((e) => e.checkVisibility())`) {
		t.Error("without a token: got buttons that change something; want none")
	}
	b.photo("light", true)
}

// wantNoMarkup expects no elements but the page's own.
func (b *browser) wantNoMarkup() {
	b.t.Helper()
	if b.holds(
		`document.querySelector("main :is(img, script), aside :is(img, script), [onerror], [onmouseover]")`) {
		b.t.Error("got elements of hostile names; want none")
	}
}

// testKeyboard: the time line of a session opens and closes without a mouse, and the focus comes back.
func testKeyboard(t *testing.T, b *browser) {
	t.Helper()
	b.eval(`document.activeElement?.blur()`, nil)
	b.press("Tab")
	if !b.holds(`document.activeElement.matches(".skip")`) {
		t.Error("the first Tab: got no link to the sessions; want one")
	}
	b.tabTo("#search")
	b.write("demo refused")
	b.await("the search finds sessions",
		`document.querySelector("#sessions-count").innerText.includes("found of")`)
	b.tabTo("#running tbody button")
	// The sessions in clear: the newest is the one that asks for hostile names.
	var id string
	b.eval(`document.activeElement.innerText`, &id)
	b.press("Enter")
	b.await("the time line", `document.querySelector("#events").innerText.includes("SIZE")`)
	if !b.holds(`document.activeElement.id === "detail-head"`) {
		t.Error("an opened session: got the focus elsewhere; want it at the session's heading")
	}
	for _, h := range hostile {
		b.wantText("#events", h.shown)
	}
	b.wantNoMarkup()
	b.wantText("#facts", "demo", "192.168.5.")
	b.photo("session", false)
	b.press("Escape")
	if !b.holds(fmt.Sprintf(
		`!document.querySelector("#detail").checkVisibility() && document.activeElement.innerText === %q`,
		id)) {
		t.Error("Escape: got the session still open, or the focus elsewhere; want it back at the session")
	}
	// The focus stays where it is while the list changes.
	b.eval(`window.before = document.querySelector("#plot path.down").getAttribute("d")`, nil)
	b.await("the next answer",
		`document.querySelector("#plot path.down").getAttribute("d") !== window.before`)
	if !b.holds(fmt.Sprintf("document.activeElement.innerText === %q", id)) {
		t.Error("an update: got the focus elsewhere; want it where it was")
	}
	b.clearSearch()
	if unnamed := b.unnamed(); len(unnamed) > 0 {
		t.Errorf("a screen reader has no name for %q", unnamed)
	}
}

// clearSearch empties the search.
func (b *browser) clearSearch() {
	b.t.Helper()
	b.eval(`(() => {
		const search = document.querySelector("#search");
		search.value = "";
		search.dispatchEvent(new Event("input"));
	})()`, nil)
}

// unnamed returns the roles of the controls, tables and pictures for which a screen reader has no name.
func (b *browser) unnamed() (roles []string) {
	b.t.Helper()
	type property struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name property
		}
	}
	b.do("Accessibility.getFullAXTree", nil, &tree)
	for _, n := range tree.Nodes {
		switch n.Role.Value {
		case "button", "table", "textbox", "searchbox", "checkbox", "image", "region", "dialog", "heading",
			"link",
			"complementary", "group":
			if n.Name.Value == "" && !n.Ignored {
				roles = append(roles, fmt.Sprint(n.Role.Value))
			}
		}
	}
	return roles
}

// testEnded: the sessions that have ended have verdicts, and can be searched.
func testEnded(t *testing.T, b *browser) {
	t.Helper()
	b.click("#show-ended")
	b.await("the ended sessions", `document.querySelectorAll("#ended tbody tr").length === 12`)
	b.wantText("#ended", "somebody", "530")
	b.click("#search")
	b.write("somebody 530")
	b.await("all are found", `document.querySelectorAll("#ended tbody tr").length === 12`)
	b.write(" nothing-like-that")
	b.await("none is found",
		`document.querySelector("#sessions-count").innerText === "None of 12 sessions matches."`)
	b.clearSearch()
	b.click("#ended tbody button")
	b.await("its verdict", `document.querySelector("#verdict").innerText.includes("530")`)
	b.photo("ended", false)
	b.click("#close")
	b.click("#show-running")
}

// testLooks takes pictures in the sizes and colours that people have.
func testLooks(b *browser) {
	b.dark(true)
	b.photo("dark", true)
	b.click("#running tbody tr:last-child button")
	b.await("its time line", `document.querySelectorAll("#events tbody tr").length > 3`)
	b.photo("dark-session", false)
	b.size(1720, 1000)
	b.photo("wide", false)
	b.size(390, 844)
	b.photo("phone-session", false)
	b.click("#close")
	b.photo("phone", true)
	if b.holds(`document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
		b.t.Error("390 pixels wide: got a page that scrolls to the side; want one that does not")
	}
	b.size(320, 640) // as 1280 pixels at 400 %
	b.await("the labels of the time are apart", `(() => {
		const all = [...document.querySelectorAll("#plot .label:not([x='54'])")]
			.map((e) => e.getBoundingClientRect()).sort((a, b) => a.left - b.left);
		return all.length > 1 && all.slice(1).every((r, i) => r.left - all[i].right > 10);
	})()`)
	b.size(1440, 1000)
	b.dark(false)
}
