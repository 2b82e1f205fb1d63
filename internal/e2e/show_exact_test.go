package e2e

import (
	"fmt"
	"io"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// The bytes of what the kernel carries are those that the client got and sent, though packets are lost behind the
// gateway and are sent through it twice; and of a transfer that the client breaks off, no more than were sent.
func TestShowExactBytes(t *testing.T) {
	labtest.Need(t, "nft")
	const lossy = `nft add table inet lossy; nft add chain inet lossy input '{ type filter hook input priority 0; policy accept; }'
		nft add rule inet lossy input ip length '>' 1000 numgen random mod 30 0 drop`
	for _, tracking := range []string{"proxy", "kernel"} {
		t.Run(tracking, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			server := vsftpd(t, l.Server(), site4.server)
			s := newShown(t, l, fmt.Sprintf(oneForward+"tracking = %q\n", "files", gateway4, tracking))
			sh(t, l.Client(), "%s", lossy)
			sh(t, l.Server(), "%s", lossy)
			o := call(t, l.Client(), curl, server, pasv, site4.listen)
			o.files(t, server)
			size := int64(len(content()))
			s.awaitExact(transfers, size, size)

			c, err := l.Client().Dial(t.Context(), "tcp", gateway4)
			if err != nil {
				t.Fatal(err)
			}
			w := newWire(t, "the client", c)
			w.hear("220 ")
			for _, step := range [][2]string{{"USER anonymous", "331 "}, {"PASS a@example.com", "230 "}} {
				w.say("%s", step[0])
				w.hear(step[1])
			}
			w.say("PASV")
			data, err := l.Client().Dial(t.Context(), "tcp", hostPort(t, w.hear("227 ")).String())
			if err != nil {
				t.Fatal(err)
			}
			w.say("RETR %s", remoteFile)
			w.hear("150 ")
			got, err := io.CopyN(io.Discard, data, size/2)
			if err != nil {
				t.Fatal(err)
			}
			data.Close()
			w.hear("") // a server that had sent all before does not notice
			w.say("QUIT")
			w.hear("221 ")
			until(t, "the transfer that broke off", func() bool { return s.status().Forwards[0].Down > size+got-1 })
			if down := s.status().Forwards[0].Down; down > 3*size {
				t.Errorf("got %d bytes down; want %d at most", down, 3*size)
			}
		})
	}
}

// awaitExact awaits the end of all sessions, and expects exactly these bytes of files.
func (s *shown) awaitExact(transfers int, up, down int64) {
	s.t.Helper()
	until(s.t, "all transfers over", func() bool {
		f := s.status().Forwards[0]
		return f.Transfers+f.Failed == transfers
	})
	byBytes := map[int64]int{}
	for _, one := range lines(s.t, s.transfers) {
		byBytes[one.Bytes]++
		if one.Bytes > up/2 && one.Bytes != up && one.Bytes != down {
			s.t.Errorf("got %+v; want %d or %d bytes", one, up, down)
		}
	}
	if byBytes[up]+byBytes[down] < 2 {
		s.t.Errorf("got transfers of %v bytes; want one up of %d and one down of %d", byBytes, up, down)
	}
}
