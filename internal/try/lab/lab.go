// Package lab is a laboratory of network namespaces: three hosts, client, gateway and server, joined by two
// links, to try address translation without hardware. Neither client nor server has a route beyond its own
// subnet, so that no packet passes the gateway untranslated.
//
// A lab is anonymous (New: it belongs to this process and ends with it) or persistent (Up, Open, Exec, Down:
// for the command line). Enter gives an ordinary user the rights that a lab needs, inside a user namespace.
//
// The package never changes an address, a route, a rule or a sysctl of the host that it runs on, and it
// knows nothing of FTP.
package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The names of the three hosts, as Host, Exec and the command line take them.
const (
	ClientName  = "client"
	GatewayName = "gateway"
	ServerName  = "server"
)

// The links: client:eth0 <-> gateway:lan0 and gateway:wan0 <-> server:eth0.
const (
	ClientLink     = "eth0"
	GatewayLANLink = "lan0"
	GatewayWANLink = "wan0"
	ServerLink     = "eth0"
)

// The addresses of the hosts, in documentation prefixes (RFC 5737, RFC 3849) where there are any.
var (
	ClientAddr4 = netip.MustParseAddr("192.168.5.1")
	GatewayLAN4 = netip.MustParseAddr("192.168.5.2")
	GatewayWAN4 = netip.MustParseAddr("203.0.113.1")
	ServerAddr4 = netip.MustParseAddr("203.0.113.21")

	ClientAddr6 = netip.MustParseAddr("2001:db8:5::1")
	GatewayLAN6 = netip.MustParseAddr("2001:db8:5::2")
	GatewayWAN6 = netip.MustParseAddr("2001:db8:113::1")
	ServerAddr6 = netip.MustParseAddr("2001:db8:113::21")
)

// The two subnets, in both families.
var (
	LANPrefix4 = netip.MustParsePrefix("192.168.5.0/24")
	WANPrefix4 = netip.MustParsePrefix("203.0.113.0/24")
	LANPrefix6 = netip.MustParsePrefix("2001:db8:5::/64")
	WANPrefix6 = netip.MustParsePrefix("2001:db8:113::/64")
)

// Lab is the three hosts. It holds one file descriptor for each host until Close.
type Lab struct {
	client, gateway, server *Host
}

// New makes a lab in anonymous namespaces of this process. They end with Close, or with the
// process, and with the last process, socket or handle in them. It needs CAP_SYS_ADMIN and
// CAP_NET_ADMIN: real root, or Enter.
func New() (*Lab, error) {
	if err := Prepare(); err != nil {
		return nil, err
	}
	l := &Lab{}
	for _, h := range l.slots() {
		var err error
		if *h.host, err = NewHost(h.name); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// slot is where a lab keeps one of its hosts.
type slot struct {
	name string
	host **Host
}

func (l *Lab) slots() []slot {
	return []slot{{ClientName, &l.client}, {GatewayName, &l.gateway}, {ServerName, &l.server}}
}

// Client returns the host at 192.168.5.1.
func (l *Lab) Client() *Host { return l.client }

// Gateway returns the host between the two links.
func (l *Lab) Gateway() *Host { return l.gateway }

// Server returns the host at 203.0.113.21.
func (l *Lab) Server() *Host { return l.server }

// Host returns the host with that name. The error for an unknown name lists the three names.
func (l *Lab) Host(name string) (*Host, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	for _, s := range l.slots() {
		if s.name == name {
			return *s.host, nil
		}
	}
	panic("lab: a name without a host")
}

func checkName(name string) error {
	switch name {
	case ClientName, GatewayName, ServerName:
		return nil
	}
	return fmt.Errorf("lab: no host %q: there are %s, %s and %s", name, ClientName, GatewayName, ServerName)
}

// Close closes the namespaces. Those of New end, unless a process or socket is still in them. The hosts are
// unusable afterwards.
func (l *Lab) Close() error {
	var errs []error
	for _, s := range l.slots() {
		if *s.host != nil {
			errs = append(errs, (*s.host).Close())
		}
	}
	return errors.Join(errs...)
}

// build connects three bare hosts by the links, and sets their addresses.
func (l *Lab) build() error {
	for _, h := range []*Host{l.client, l.gateway, l.server} {
		// A new namespace inherits the host's IPv4 forwarding
		// (Documentation/networking/ip-sysctl.rst, devconf_inherit_init_net).
		if err := h.WriteSysctl("net.ipv4.ip_forward", "0"); err != nil {
			return err
		}
	}
	if err := connectHosts(l.client, ClientLink, l.gateway, GatewayLANLink); err != nil {
		return err
	}
	if err := connectHosts(l.server, ServerLink, l.gateway, GatewayWANLink); err != nil {
		return err
	}
	for _, a := range []struct {
		host *Host
		link string
		addr netip.Addr
		bits int
	}{
		{l.client, ClientLink, ClientAddr4, LANPrefix4.Bits()},
		{l.client, ClientLink, ClientAddr6, LANPrefix6.Bits()},
		{l.gateway, GatewayLANLink, GatewayLAN4, LANPrefix4.Bits()},
		{l.gateway, GatewayLANLink, GatewayLAN6, LANPrefix6.Bits()},
		{l.gateway, GatewayWANLink, GatewayWAN4, WANPrefix4.Bits()},
		{l.gateway, GatewayWANLink, GatewayWAN6, WANPrefix6.Bits()},
		{l.server, ServerLink, ServerAddr4, WANPrefix4.Bits()},
		{l.server, ServerLink, ServerAddr6, WANPrefix6.Bits()},
	} {
		if err := a.host.AddAddress(a.link, netip.PrefixFrom(a.addr, a.bits)); err != nil {
			return err
		}
	}
	return nil
}

// connectHosts makes a veth pair with one end in each host, and sets both ends up.
func connectHosts(a *Host, linkA string, b *Host, linkB string) error {
	where := fmt.Sprintf("%s:%s <-> %s:%s", a.name, linkA, b.name, linkB)
	return b.withFd(func(peer int) error {
		err := a.withLinks(func(nl *netlink.Handle) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = linkA
			veth := &netlink.Veth{LinkAttrs: attrs, PeerName: linkB, PeerNamespace: netlink.NsFd(peer)}
			if err := nl.LinkAdd(veth); err != nil {
				return err
			}
			return setUp(nl, linkA)
		})
		if err == nil {
			err = b.withLinks(func(nl *netlink.Handle) error { return setUp(nl, linkB) })
		}
		if err != nil {
			return fmt.Errorf("lab: link %s: %w", where, err)
		}
		return nil
	})
}

// setUp is `ip link set NAME up`.
func setUp(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return err
	}
	return nl.LinkSetUp(link)
}

// AddAddress gives an address to one of the host's links, as `ip address add PREFIX dev LINK`.
// IPv6 addresses are usable at once, without duplicate address detection.
func (h *Host) AddAddress(link string, prefix netip.Prefix) error {
	err := h.withLinks(func(nl *netlink.Handle) error {
		dev, err := nl.LinkByName(link)
		if err != nil {
			return err
		}
		bits := prefix.Addr().BitLen()
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), bits)}}
		if prefix.Addr().Is6() {
			addr.Flags = ifaNoDAD
		}
		return nl.AddrAdd(dev, addr)
	})
	if err != nil {
		return fmt.Errorf("lab: %s: address %s on %s: %w", h.name, prefix, link, err)
	}
	return nil
}

// ifaNoDAD is IFA_F_NODAD of include/uapi/linux/if_addr.h: no duplicate address detection.
const ifaNoDAD = 0x02

// withLinks runs f with a netlink handle in the host's namespace. It needs no thread of its own.
func (h *Host) withLinks(f func(*netlink.Handle) error) error {
	return h.withFd(func(fd int) error {
		nl, err := netlink.NewHandleAt(netns.NsHandle(fd), netlinkRoute)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer nl.Close()
		return f(nl)
	})
}

// netlinkRoute is NETLINK_ROUTE of include/uapi/linux/netlink.h.
const netlinkRoute = 0

// NewHost makes one host in an anonymous namespace of this process, with lo up and nothing else.
// It needs the same rights as New. The caller closes the host.
func NewHost(name string) (*Host, error) {
	h := &Host{name: name}
	err := onOwnThread(func() error {
		ns, err := netns.New() // moves this thread into it
		if err != nil {
			return explainRefusal(err)
		}
		h.ns = os.NewFile(uintptr(ns), "netns "+name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lab: new namespace for %s: %w", name, err)
	}
	if err := h.loopbackUp(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) loopbackUp() error {
	if err := h.withLinks(func(nl *netlink.Handle) error { return setUp(nl, "lo") }); err != nil {
		return fmt.Errorf("lab: %s: set lo up: %w", h.name, err)
	}
	return nil
}
