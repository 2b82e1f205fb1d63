package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/lab"
)

// maxTapped bounds the packets that a wiretap keeps, in bytes. A session with small files has kilobytes.
const maxTapped = 4 << 20

// wiretap captures the packets of a link, each from its network header on (packet(7)).
type wiretap struct {
	file    *os.File
	done    chan struct{} // closed when readPackets has ended
	packets []byte        // all packets in a row; read it after done is closed
}

// startTaps captures on both links of the gateway until the Tap that it returns is called.
func startTaps(gateway *lab.Host) (scenario.Tap, error) {
	var client, server *wiretap
	err := gateway.Do(func() (err error) {
		if client, err = startTap(lab.GatewayLANLink); err != nil {
			return err
		}
		server, err = startTap(lab.GatewayWANLink)
		return err
	})
	if err != nil {
		if client != nil {
			_, closeErr := client.stop()
			err = errors.Join(err, closeErr)
		}
		return nil, err
	}
	return func() (atClient, atServer []byte, err error) {
		atClient, clientErr := client.stop()
		atServer, serverErr := server.stop()
		return atClient, atServer, errors.Join(clientErr, serverErr)
	}, nil
}

// startTap captures on a link of the calling thread's network namespace. It needs CAP_NET_RAW there.
func startTap(name string) (*wiretap, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("wiretap on %s: %w", name, err)
	}
	const kind = syscall.SOCK_DGRAM | syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC
	fd, err := syscall.Socket(syscall.AF_PACKET, kind, 0)
	if err != nil {
		return nil, fmt.Errorf("wiretap on %s: %w", name, os.NewSyscallError("socket", err))
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
		err = fmt.Errorf("wiretap on %s: %w", name, os.NewSyscallError("bind", err))
		return nil, errors.Join(err, syscall.Close(fd))
	}
	t := &wiretap{file: os.NewFile(uintptr(fd), "wiretap on "+name), done: make(chan struct{})}
	go t.readPackets()
	return t, nil
}

// readPackets reads until the deadline that stop sets.
func (t *wiretap) readPackets() {
	defer close(t.done)
	packet := make([]byte, 1<<16)
	for {
		n, err := t.file.Read(packet)
		if err != nil {
			return
		}
		t.add(packet[:n])
	}
}

func (t *wiretap) add(packet []byte) {
	t.packets = append(t.packets, packet[:min(len(packet), maxTapped-len(t.packets))]...)
}

// stop ends the capture and returns it. Every packet from before the call is in it.
func (t *wiretap) stop() ([]byte, error) {
	defer t.file.Close()
	err := t.file.SetReadDeadline(time.Now())
	<-t.done
	raw, rawErr := t.file.SyscallConn()
	if err = errors.Join(err, t.file.SetReadDeadline(time.Time{}), rawErr); err != nil {
		return t.packets, fmt.Errorf("stop the wiretap: %w", err)
	}
	packet := make([]byte, 1<<16)
	err = raw.Read(func(fd uintptr) (done bool) {
		for { // drain the socket
			n, _, err := syscall.Recvfrom(int(fd), packet, 0)
			if err != nil {
				return true
			}
			t.add(packet[:n])
		}
	})
	return t.packets, err
}
