package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// The files that Up passes to a holder, in addition to the standard ones.
const (
	holderStatusFile   = 3 // the holder writes holderReady here, or its error
	holderListenerFile = 4 // the socket on which the holder accepts requests
)

// request is a request of the command line to the holder: to end the lab, or to run a command. The standard
// files of the command come with the request. The numbers of signals for the command follow it. JSON keeps
// bytes as they are, but of a string only what is UTF-8.
type request struct {
	Down      bool
	Host      string
	Path, Dir []byte
	Argv, Env [][]byte
}

// toBytes and toStrings convert arguments or variables.
func toBytes(all []string) [][]byte {
	list := make([][]byte, len(all))
	for i, one := range all {
		list[i] = []byte(one)
	}
	return list
}

func toStrings(all [][]byte) []string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = string(one)
	}
	return list
}

// reply is the holder's answer, when the command has ended.
type reply struct {
	Exit int
	Err  string
}

func (r reply) err() error {
	if r.Err == "" {
		return nil
	}
	return errors.New(r.Err)
}

func replyOf(exit int, err error) reply {
	if err != nil {
		return reply{Err: err.Error()}
	}
	return reply{Exit: exit}
}

// stdFiles is how many files come with a command's request.
const stdFiles = 3

// send writes a request: a byte that carries the files, then the request. Signals follow through the encoder.
func send(conn *net.UnixConn, r request, rights []byte) (*json.Encoder, error) {
	if _, _, err := conn.WriteMsgUnix([]byte{0}, rights, nil); err != nil {
		return nil, err
	}
	enc := json.NewEncoder(conn)
	return enc, enc.Encode(r)
}

// holder keeps an ordinary user's lab: namespaces without a name exist only while a process holds them.
type holder struct {
	lab      *Lab
	listener *net.UnixListener
	stop     context.CancelFunc // makes run return
	commands sync.WaitGroup
	killed   chan struct{} // closed when all processes in the lab have ended
	killErr  error         // processes that could not be killed; set before killed is closed
}

// HolderMain is the body of the hidden command `ftpgate lab hold`, which only Up starts, in the background.
// It keeps the lab of an ordinary user, and runs the commands that Exec sends. It ends with Down, SIGTERM or
// SIGINT, and kills all processes in the lab. It returns the exit status.
func HolderMain() int {
	word := os.NewFile(holderStatusFile, "word")
	h, err := newHolder()
	if err != nil {
		_, _ = io.WriteString(word, err.Error()) // Up prints it
		return 1
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	h.stop = cancel
	if _, err := io.WriteString(word, holderReady); err != nil {
		return 1 // Up is gone: no process can use this lab
	}
	word.Close()
	if err := h.run(ctx); err != nil {
		return 1
	}
	return 0
}

func newHolder() (*holder, error) {
	if !Inside() {
		return nil, errors.New("lab: hold: only `ftpgate lab up` may start this command")
	}
	l, err := net.FileListener(os.NewFile(holderListenerFile, "listener"))
	if err != nil {
		return nil, fmt.Errorf("lab: hold: %w", err)
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("lab: hold: %s is not a unix socket", l.Addr())
	}
	lab, err := New()
	if err != nil {
		return nil, err
	}
	return &holder{lab: lab, listener: listener, killed: make(chan struct{})}, nil
}

// run serves requests until ctx is done, then kills all processes in the lab.
func (h *holder) run(ctx context.Context) error {
	closed := context.AfterFunc(ctx, func() { h.listener.Close() })
	defer closed()
	var conns sync.WaitGroup
	for {
		conn, err := h.listener.AcceptUnix()
		if err != nil {
			break // the listener is closed or broken
		}
		h.commands.Add(1)
		conns.Go(func() { h.serve(ctx, conn) })
	}
	h.stop()
	h.commands.Wait()
	for _, host := range h.lab.hosts {
		h.killErr = errors.Join(h.killErr, killProcesses(host))
	}
	close(h.killed)
	conns.Wait()
	return errors.Join(h.killErr, h.lab.Close())
}

// serve answers one request. When ctx is done it stops reading, which kills the command of the request.
func (h *holder) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	done := sync.OnceFunc(h.commands.Done)
	defer done()
	stopReading := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stopReading()

	var r reply
	switch asked, err := receive(conn); {
	case err != nil:
		r.Err = fmt.Sprintf("the holder got an invalid request: %v", err)
	case asked.Down:
		h.stop()
		done()
		<-h.killed
		r = replyOf(0, h.killErr)
	default:
		r = replyOf(h.execute(conn, asked))
	}
	_ = json.NewEncoder(conn).Encode(r) // fails if the requester is gone
}

// incoming is a request as the holder received it.
type incoming struct {
	request
	files   []*os.File    // the command's standard files
	signals *json.Decoder // numbers of signals for the command
}

func (a incoming) closeFiles() {
	for _, f := range a.files {
		_ = f.Close() // they belong to the requester
	}
}

func receive(conn *net.UnixConn) (incoming, error) {
	var a incoming
	rights := make([]byte, syscall.CmsgSpace(stdFiles*4)) // 4 bytes per descriptor
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		return a, err
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return a, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return a, err
		}
		for _, fd := range fds {
			a.files = append(a.files, os.NewFile(uintptr(fd), "standard file"))
		}
	}
	a.signals = json.NewDecoder(conn)
	if err := a.signals.Decode(&a.request); err != nil {
		a.closeFiles()
		return a, err
	}
	if !a.Down && len(a.files) != stdFiles {
		a.closeFiles()
		return a, fmt.Errorf("%d files came with it; want %d", len(a.files), stdFiles)
	}
	return a, nil
}

// execute runs a command and returns its exit status.
func (h *holder) execute(conn *net.UnixConn, a incoming) (int, error) {
	defer a.closeFiles()
	host, err := h.lab.Host(a.Host)
	if err != nil {
		return 0, err
	}
	cmd := &exec.Cmd{
		Path: string(a.Path), Args: toStrings(a.Argv), Env: toStrings(a.Env), Dir: string(a.Dir),
		Stdin: a.files[0], Stdout: a.files[1], Stderr: a.files[2],
		// With a process group of its own, signals also reach what a shell started, like those of a terminal.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if err := host.Start(cmd); err != nil {
		return 0, err
	}
	ended, passed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(passed)
		signalGroup(a.signals, cmd.Process.Pid, ended)
	}()
	err = cmd.Wait()
	close(ended)
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes signalGroup
	<-passed
	return exitStatus(cmd, err)
}

// signalGroup sends the requested signals to a process group until its first process has ended. It kills the
// group when the requester is gone.
func signalGroup(signals *json.Decoder, group int, ended <-chan struct{}) {
	for {
		var n int
		err := signals.Decode(&n)
		select {
		case <-ended:
			return
		default:
		}
		if err != nil {
			n = int(syscall.SIGKILL)
		}
		_ = syscall.Kill(-group, syscall.Signal(n)) // fails if it has just ended
		if err != nil {
			return
		}
	}
}
