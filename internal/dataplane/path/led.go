package path

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relay"
)

// entrance is a pinhole of the kernel's that leads a peer from the other end's address, which it dials, to
// the same port of the gateway's own, where the relay listens.
func entrance(p pinhole.Pinhole) pinhole.Pinhole {
	return pinhole.Pinhole{From: p.From, Listen: p.Listen, Target: p.Accept(), SourceIP: p.From,
		Active: p.Active}
}

// ledData is a data connection that the relay carries, whose peer dials the other end's address.
type ledData struct {
	relayData
	entrance *kernelpath.DataPort
	release  func() // gives the port back
}

// openLed opens a pinhole of the relay's at an address that is not the gateway's.
func (p forwardPath) openLed(ctx context.Context, f forward.Resolved, of pinhole.Pinhole,
	dataTLS dataplane.DataTLS) (dataplane.Data, netip.AddrPort, error) {
	kernel := p.kernel.Load()
	if kernel == nil {
		return nil, netip.AddrPort{}, errNoTables
	}
	var c *relay.Connection
	use := func(at netip.AddrPort) (bool, error) {
		if of.Listen = at; p.isReserved(of.Accept()) {
			return false, nil
		}
		var err error
		c, err = p.relayOpener(f).OpenAt(ctx, of, dataTLS)
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, port.ErrTaken) {
			err = ctx.Err()
		}
		return c != nil, err
	}
	at, err := p.ports.Allocate(of.From, of.Listen.Addr(), f.DataPorts(), use)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	led := ledData{relayData{c}, kernel.OpenAt(entrance(of)), func() { p.ports.Rest(of.From, at) }}
	led.entrance.Count(func() bool { return !c.ConnectedAt().IsZero() })
	if err := led.entrance.Arm(); err != nil { // the relay refuses a peer until its own Arm, or lets it wait
		led.Close()
		return nil, netip.AddrPort{}, err
	}
	return led, at, nil
}

// Use keeps the pinhole open for a transfer.
func (l ledData) Use() {
	l.entrance.Use()
	l.relayData.Use()
}

// Unuse gives the pinhole its usual lifetime again.
func (l ledData) Unuse() {
	l.entrance.Unuse()
	l.relayData.Unuse()
}

// Sever ends the connection.
func (l ledData) Sever() {
	l.entrance.Shut()
	l.relayData.Sever()
}

// Close closes the pinhole. An existing connection continues.
func (l ledData) Close() pinhole.Outcome {
	if !l.ConnectedAt().IsZero() {
		l.entrance.MarkUsed()
	}
	l.entrance.Close()
	l.release()
	return l.relayData.Close()
}
