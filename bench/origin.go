package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
// files, TLS always or never. Each transfer has a listener of its own, as with every real server, and
// large files go out through sendfile(2) where they are not encrypted.
type origin struct {
	block []byte      // small files are its beginning
	large *os.File    // blocks
	tls   *tls.Config // nil: it speaks no TLS; else nothing goes without

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
	o.block = block
	for range blocks {
		if _, err := o.large.Write(block); err != nil {
			return nil, errors.Join(fmt.Errorf("bench: a file in memory: %w", err), o.large.Close())
		}
	}
	return o, nil
}

// serveOrigin is the origin as a process: it says on out that it is ready, and ends when in does. Its
// arguments are its address and, for TLS, a seal.
func serveOrigin(addr string, with seal, in io.Reader, out io.Writer) error {
	o, err := newOrigin()
	if err != nil {
		return err
	}
	defer o.large.Close()
	if with != "" {
		if o.tls, err = with.forOrigin(); err != nil {
			return err
		}
	}
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
