package servercheck

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
)

// TestOtherThanFTP has peers that speak no FTP, or without end. All of them must be done with quickly.
func TestOtherThanFTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		banner func(net.Conn)
		want   wanted
	}{
		"SSH": {write("SSH-2.0-OpenSSH_9.6\r\n"),
			wanted{CodeGreeting, finding.Fault, "speaks SSH"}},
		"HTTP": {write("HTTP/1.1 400 Bad Request\r\n\r\n"),
			wanted{CodeGreeting, finding.Fault, "speaks HTTP"}},
		"nothing": {func(c net.Conn) { io.Copy(io.Discard, c) },
			wanted{CodeGreeting, finding.Fault, "did not greet within"}},
		"closes": {func(net.Conn) {},
			wanted{CodeGreeting, finding.Fault, "closed it without a greeting"}},
		"half": {func(c net.Conn) { io.WriteString(c, "220 wel"); io.Copy(io.Discard, c) },
			wanted{CodeGreeting, finding.Fault, "did not end in time"}},
		"binary": {write("\x00\x01\x02\x03"),
			wanted{CodeGreeting, finding.Fault, "speaks no FTP"}},
		"endless lines": {endlessly("220-more\r\n"),
			wanted{CodeGreeting, finding.Fault, "more than 512 lines"}},
		"endless line": {endlessly("220 a long line"),
			wanted{CodeGreeting, finding.Fault, "a line of more than 16384 bytes"}},
		"a line of a megabyte": {write("220 " + strings.Repeat("x", 1<<20) + "\r\n"),
			wanted{CodeGreeting, finding.Fault, "a line of more than"}},
		"endless 120": {endlessly("120 wait\r\n"),
			wanted{CodeGreeting, finding.Fault, "preliminary"}},
		"drip": {dripping("220-one more\r\n"),
			wanted{CodeGreeting, finding.Fault, "did not end in time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &peer{banner: c.banner}
			expect(t, run(t, p.start(t), impatient()), c.want)
		})
	}
}

func write(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

func endlessly(text string) func(net.Conn) {
	return func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// dripping writes a byte now and then, so that no single read takes long.
func dripping(text string) func(net.Conn) {
	return func(c net.Conn) {
		tick := time.NewTicker(brief / 20)
		defer tick.Stop()
		for i := 0; ; i++ {
			<-tick.C
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
		}
	}
}

// TestHostileLater has servers that behave until they are trusted.
func TestHostileLater(t *testing.T) {
	t.Parallel()
	silence := func(c *client, _ string) string { io.Copy(io.Discard, c.conn); return "" }
	flood := func(c *client, _ string) string { endlessly("200-more\r\n")(c.conn); return "" }
	noReply, noData := options(), impatient()
	noReply.Timeouts.Reply = brief
	for name, c := range map[string]struct {
		o      Options
		answer answers
		want   []wanted
	}{
		"silent at USER": {noReply, answers{"USER": silence},
			[]wanted{{CodeLogin, finding.Fault, "does not answer USER in time"}}},
		"silent at FEAT": {noReply, answers{"FEAT": silence},
			[]wanted{{CodeFeatures, finding.Fault, "does not answer FEAT"}}},
		"flood at PASS": {noReply, answers{"PASS": flood},
			[]wanted{{CodeLogin, finding.Fault, "answers PASS with a reply of more than"}}},
		"silent at PASV": {noReply, answers{"PASV": silence},
			[]wanted{{CodePasv, finding.Warning, "does not answer PASV"}}},
		"silent at QUIT": {noReply, answers{"QUIT": silence}, nil},
		"flood at LIST": {noReply, answers{"LIST": flood},
			[]wanted{{CodePasv, finding.Fault, "more than 512 lines"}, {CodeEpsv, finding.Fault, ""},
				{CodePort, finding.Warning, ""}, {CodeEprt, finding.Warning, ""}}},
		"listing without end": {options(), answers{"LIST": func(c *client, _ string) string {
			c.say("150 here it comes")
			if conn, err := c.connect(); err == nil {
				endlessly(strings.Repeat(theListing, 1000))(conn)
				conn.Close()
			}
			return "426 you went away"
		}}, []wanted{{CodePasv, finding.OK, "cut off after 4 MiB"},
			{CodePort, finding.OK, "cut off after 4 MiB"}}},
		"data that never ends": {noData, answers{"LIST": func(c *client, _ string) string {
			c.say("150 here it comes")
			if conn, err := c.connect(); err == nil {
				io.Copy(io.Discard, conn)
				conn.Close()
			}
			return "226 done"
		}}, []wanted{{CodePasv, finding.Fault, "did not end within"}, {CodeEpsv, finding.Fault, ""},
			{CodePort, finding.Warning, "did not end within"}, {CodeEprt, finding.Warning, ""}}},
		"never connects": {noData, answers{"LIST": func(c *client, _ string) string {
			if c.passive == nil {
				return "150 here it comes"
			}
			return c.list()
		}}, []wanted{{CodePort, finding.Warning, "did not connect to 127.0.0.1:"},
			{CodeEprt, finding.Warning, "did not answer LIST"}}},
		"does not let in again": {noReply, answers{"USER": once(), "EPSV": silence},
			[]wanted{{CodeEpsv, finding.Fault, "does not answer EPSV"},
				{CodePasv, finding.Info, "did not accept this host again"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &peer{answer: c.answer}
			expect(t, run(t, p.start(t), c.o), c.want...)
		})
	}
}

// once lets one session in.
func once() func(*client, string) string {
	in := false
	return func(c *client, _ string) string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if in {
			return "530 not again"
		}
		in = true
		return "230 welcome"
	}
}

// TestWholeTime ends a check in the middle.
func TestWholeTime(t *testing.T) {
	t.Parallel()
	p := &peer{answer: answers{"PASS": func(c *client, _ string) string {
		io.Copy(io.Discard, c.conn)
		return ""
	}}}
	o := options()
	o.Timeouts.Whole = brief
	expect(t, run(t, p.start(t), o), wanted{CodeUnfinished, finding.Warning,
		"the check was interrupted or timed out; not everything was tested"})
}

func TestPasswordWithLineEnd(t *testing.T) {
	p := &peer{}
	o := options()
	o.Password = "a\r\nDELE everything"
	expect(t, run(t, p.start(t), o), wanted{CodeLogin, finding.Info, "no login was tried"})
	for _, c := range p.commands() {
		if strings.HasPrefix(c, "DELE") || strings.HasPrefix(c, "PASS") {
			t.Errorf("the server heard %q", c)
		}
	}
}
