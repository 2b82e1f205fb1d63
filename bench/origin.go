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
	largeStart = "large-"    // followed by its size in MiB
	smallSize  = 1 << 10     // bytes
	blockSize  = 1 << 20     // bytes; large files repeat this block
	blocks     = 64          // of the file in memory that large files are sent from
	acceptTime = time.Minute // until the client connects to a passive port
)

// origin is the FTP server of all contestants: passive mode only, any account, two kinds of files, TLS always
// or never. Like a real server it opens a listener for each transfer, and sends large files with sendfile(2)
// if they are not encrypted.
type origin struct {
	block []byte      // small files are its first bytes
	large *os.File    // blocks
	tls   *tls.Config // nil: no TLS; else TLS is required

	mu    sync.Mutex // guards conns
	conns map[*net.TCPConn]bool
}

// newOrigin makes the files in memory. The caller closes large.
func newOrigin() (*origin, error) {
	fd, err := unix.MemfdCreate("large", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: a file in memory: %w", err)
	}
	o := &origin{large: os.NewFile(uintptr(fd), "large"), conns: map[*net.TCPConn]bool{}}
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

// serveOrigin runs the origin as a process: it writes to out when it is ready, and ends when in does. Without
// certificates it uses no TLS.
func serveOrigin(addr string, with certDir, in io.Reader, out io.Writer) error {
	o, err := newOrigin()
	if err != nil {
		return err
	}
	defer o.large.Close()
	if with != "" {
		if o.tls, err = with.serverConfig(); err != nil {
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
	o.closeConns()
	<-served
	return err
}

// serve accepts control connections until l is closed, and waits until they have ended.
func (o *origin) serve(l *net.TCPListener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.conns[conn] = true
		o.mu.Unlock()
		sessions.Go(func() {
			o.session(conn)
			o.mu.Lock()
			delete(o.conns, conn)
			o.mu.Unlock()
		})
	}
}

// closeConns ends all sessions.
func (o *origin) closeConns() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.conns {
		conn.Close()
	}
}
