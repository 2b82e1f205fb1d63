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

// maxTapped bounds what a wiretap keeps, in bytes: sessions with small files are kilobytes.
const maxTapped = 4 << 20

// wiretap reads along on a link, every packet from its network header on (packet(7)).
type wiretap struct {
	file    *os.File
	done    chan struct{} // closed when nobody reads it any more
	packets []byte        // one packet behind the other; to be read once read is closed
}

// startTaps reads along on both links of the gateway, until the Tap that it returns is called.
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

// startTap reads along on a link of the network namespace that the calling thread is in. It needs
// CAP_NET_RAW there.
func startTap(name string) (*wiretap, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("wiretap on %s: %w", name, err)
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("wiretap on %s: %w", name, os.NewSyscallError("socket", err))
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("wiretap on %s: %w", name, os.NewSyscallError("bind", err)), syscall.Close(fd))
	}
	t := &wiretap{file: os.NewFile(uintptr(fd), "wiretap on "+name), done: make(chan struct{})}
	go t.readPackets()
	return t, nil
}

// readPackets reads until its deadline, which end sets.
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

// stop returns what has gone by: what went before the call is in it.
func (t *wiretap) stop() ([]byte, error) {
	defer t.file.Close()
	err := t.file.SetReadDeadline(time.Now())
	<-t.done
	if err != nil {
		return t.packets, fmt.Errorf("end the wiretap: %w", err)
	}
	if err := t.file.SetReadDeadline(time.Time{}); err != nil {
		return t.packets, fmt.Errorf("end the wiretap: %w", err)
	}
	raw, err := t.file.SyscallConn()
	if err != nil {
		return t.packets, fmt.Errorf("end the wiretap: %w", err)
	}
	packet := make([]byte, 1<<16)
	err = raw.Read(func(fd uintptr) (done bool) {
		for { // what waits in the socket, until it would block
			n, _, err := syscall.Recvfrom(int(fd), packet, 0)
			if err != nil {
				return true
			}
			t.add(packet[:n])
		}
	})
	return t.packets, err
}
