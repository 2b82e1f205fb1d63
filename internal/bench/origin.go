package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/ftp"
)

const (
	smallName  = "small"     // 1 KiB
	largeStart = "large-"    // and how many MiB it has
	smallSize  = 1 << 10     // bytes
	blockSize  = 1 << 20     // bytes; large files are this block over and over
	blocks     = 64          // of the file in memory, from which large files are sent
	acceptTime = time.Minute // for the client to come to a passive port
)

// origin is the FTP server that all contestants lead to: passive only, any account, two kinds of
// files. Each transfer has a listener of its own, as with every real server, and large files go out
// through sendfile(2).
type origin struct {
	small []byte
	large *os.File

	mu   sync.Mutex // guards what is below
	open map[*net.TCPConn]bool
}

// newOrigin makes the files; close gives them back.
func newOrigin() (*origin, error) {
	fd, err := unix.MemfdCreate("large", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: a file in memory: %w", err)
	}
	o := &origin{large: os.NewFile(uintptr(fd), "large"), open: map[*net.TCPConn]bool{}}
	block := make([]byte, blockSize)
	rand.Read(block)
	o.small = block[:smallSize]
	for range blocks {
		if _, err := o.large.Write(block); err != nil {
			return nil, errors.Join(fmt.Errorf("bench: a file in memory: %w", err), o.large.Close())
		}
	}
	return o, nil
}

// serveOrigin is the origin as a process: it says on out that it is ready, and ends when in does.
func serveOrigin(addr string, in io.Reader, out io.Writer) error {
	o, err := newOrigin()
	if err != nil {
		return err
	}
	defer o.large.Close()
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("bench: origin: %w", err)
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("bench: origin: %w", err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		o.serve(l)
	}()
	fmt.Fprintln(out, readyText)
	_, err = io.Copy(io.Discard, in)
	l.Close()
	o.hangUp()
	<-served
	return err
}

// serve takes control connections until l is closed, and waits for their ends.
func (o *origin) serve(l *net.TCPListener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.open[conn] = true
		o.mu.Unlock()
		sessions.Go(func() {
			o.session(conn)
			o.mu.Lock()
			delete(o.open, conn)
			o.mu.Unlock()
		})
	}
}

// hangUp ends all sessions.
func (o *origin) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.open {
		conn.Close()
	}
}

// served is one session of the origin.
type served struct {
	*origin
	conn    *net.TCPConn
	passive *net.TCPListener // nil: no data connection was negotiated
}

// session answers commands until the client quits or is gone.
func (o *origin) session(conn *net.TCPConn) {
	defer conn.Close()
	s := &served{origin: o, conn: conn}
	defer s.closePassive()
	if !s.reply("220 origin") {
		return
	}
	lines := bufio.NewReaderSize(conn, 512)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(string(bytes.TrimRight(line, "\r\n")), " ")
		if !s.answer(strings.ToUpper(verb), arg) {
			return
		}
	}
}

func (s *served) closePassive() {
	if s.passive != nil {
		s.passive.Close()
		s.passive = nil
	}
}

func (s *served) reply(line string) bool {
	_, err := s.conn.Write(append([]byte(line), "\r\n"...))
	return err == nil
}

// answer answers one command, and tells whether there will be another.
func (s *served) answer(verb, arg string) bool {
	switch verb {
	case "USER":
		return s.reply("331 password?")
	case "PASS":
		return s.reply("230 logged in")
	case "TYPE", "NOOP":
		return s.reply("200 ok")
	case "PASV", "EPSV":
		return s.listen(verb)
	case "SIZE":
		size, err := sizeOf(arg)
		if err != nil {
			return s.reply("550 no such file")
		}
		return s.reply("213 " + strconv.FormatInt(size, 10))
	case "RETR":
		return s.retrieve(arg)
	case "QUIT":
		s.reply("221 bye")
		return false
	}
	return s.reply("502 not here")
}

// listen opens a passive port, of which the reply tells.
func (s *served) listen(verb string) bool {
	s.closePassive()
	local := s.conn.LocalAddr().(*net.TCPAddr)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: local.IP})
	if err != nil {
		return s.reply("425 no port")
	}
	s.passive = l
	at := l.Addr().(*net.TCPAddr).AddrPort()
	line := []byte("229 ")
	if verb == "PASV" {
		line = ftp.Append227([]byte("227 "), netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	} else {
		line = ftp.Append229(line, at.Port())
	}
	return s.reply(string(line))
}

// sizeOf is the size of a file in bytes, which its name tells.
func sizeOf(name string) (int64, error) {
	if name == smallName {
		return smallSize, nil
	}
	count, found := strings.CutPrefix(name, largeStart)
	if !found {
		return 0, fmt.Errorf("bench: origin: no file %q", name)
	}
	n, err := strconv.ParseUint(count, 10, 32)
	return int64(n) << 20, err
}

// retrieve sends a file over the data connection that the client makes.
func (s *served) retrieve(name string) bool {
	size, err := sizeOf(name)
	if err != nil {
		return s.reply("550 no such file")
	}
	if s.passive == nil {
		return s.reply("425 PASV first")
	}
	defer s.closePassive()
	_ = s.passive.SetDeadline(time.Now().Add(acceptTime)) // fails on a closed listener: so will Accept
	data, err := s.passive.AcceptTCP()
	if err != nil {
		return s.reply("425 nobody came")
	}
	defer data.Close()
	if !s.reply("150 here it comes") {
		return false
	}
	if name == smallName {
		_, err = data.Write(s.small)
	} else {
		err = s.sendLarge(data, size)
	}
	if err != nil || data.Close() != nil {
		return s.reply("426 broken")
	}
	return s.reply("226 done")
}

// sendLarge sends size bytes of the file in memory, from its beginning again and again.
func (s *served) sendLarge(data *net.TCPConn, size int64) error {
	// Opened anew, the file has an offset that is this transfer's alone.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.large.Fd()))
	if err != nil {
		return err
	}
	defer f.Close()
	for size > 0 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n, err := io.Copy(data, io.LimitReader(f, size))
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}
