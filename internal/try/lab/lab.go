// Package lab is a laboratory of network namespaces: three hosts, client, gateway and server, joined by two
// links, to try address translation without hardware. Neither client nor server has a route beyond its own
// subnet, so that no packet passes the gateway untranslated.
//
// A lab is anonymous (New: it belongs to this process and ends with it) or persistent (Up, Exec, Down: for
// the command line). Enter gives an ordinary user the rights that a lab needs, inside a user namespace.
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
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
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
	hosts map[string]*Host // by name
}

// New makes a lab in anonymous namespaces of this process. They end with Close, or with the
// process, and with the last process, socket or handle in them. It needs CAP_SYS_ADMIN and
// CAP_NET_ADMIN: real root, or Enter.
func New() (*Lab, error) {
	if err := Prepare(); err != nil {
		return nil, err
	}
	return build(NewHost)
}

var hostNames = []string{ClientName, GatewayName, ServerName}

// join returns the lab of three hosts that open returns by their names.
func join(open func(name string) (*Host, error)) (*Lab, error) {
	l := &Lab{hosts: map[string]*Host{}}
	for _, name := range hostNames {
		h, err := open(name)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.hosts[name] = h
	}
	return l, nil
}

// Client returns the host at 192.168.5.1.
func (l *Lab) Client() *Host { return l.hosts[ClientName] }

// Gateway returns the host between the two links.
func (l *Lab) Gateway() *Host { return l.hosts[GatewayName] }

// Server returns the host at 203.0.113.21.
func (l *Lab) Server() *Host { return l.hosts[ServerName] }

// Host returns the host with that name. The error for an unknown name lists the three names.
func (l *Lab) Host(name string) (*Host, error) { return l.hosts[name], checkName(name) }

func checkName(name string) error {
	if slices.Contains(hostNames, name) {
		return nil
	}
	return fmt.Errorf("lab: no host %q: there are %s, %s and %s", name, ClientName, GatewayName, ServerName)
}

// Close closes the namespaces. Those of New end, unless a process or socket is still in them. The hosts are
// unusable afterwards.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// build makes three bare hosts by calling newHost, and connects them.
func build(newHost func(name string) (*Host, error)) (*Lab, error) {
	l, err := join(newHost)
	if err != nil {
		return nil, err
	}
	if err := l.connect(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// connect connects three bare hosts by the links, and sets their addresses.
func (l *Lab) connect() error {
	for _, h := range l.hosts {
		// A new namespace inherits the host's IPv4 forwarding
		// (Documentation/networking/ip-sysctl.rst, devconf_inherit_init_net).
		if err := h.WriteSysctl("net.ipv4.ip_forward", "0"); err != nil {
			return err
		}
	}
	client, gateway, server := l.Client(), l.Gateway(), l.Server()
	if err := connectHosts(client, ClientLink, gateway, GatewayLANLink); err != nil {
		return err
	}
	if err := connectHosts(server, ServerLink, gateway, GatewayWANLink); err != nil {
		return err
	}
	for _, a := range []struct {
		host         *Host
		link         string
		addr4, addr6 netip.Addr
	}{
		{client, ClientLink, ClientAddr4, ClientAddr6},
		{gateway, GatewayLANLink, GatewayLAN4, GatewayLAN6},
		{gateway, GatewayWANLink, GatewayWAN4, GatewayWAN6},
		{server, ServerLink, ServerAddr4, ServerAddr6},
	} {
		// All prefixes of a family have one length.
		err4 := a.host.AddAddress(a.link, netip.PrefixFrom(a.addr4, LANPrefix4.Bits()))
		err6 := a.host.AddAddress(a.link, netip.PrefixFrom(a.addr6, LANPrefix6.Bits()))
		if err := errors.Join(err4, err6); err != nil {
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
			addr.Flags = unix.IFA_F_NODAD // no duplicate address detection
		}
		return nl.AddrAdd(dev, addr)
	})
	if err != nil {
		return fmt.Errorf("lab: %s: address %s on %s: %w", h.name, prefix, link, err)
	}
	return nil
}

// withLinks runs f with a netlink handle in the host's namespace. It needs no thread of its own.
func (h *Host) withLinks(f func(*netlink.Handle) error) error {
	return h.withFd(func(fd int) error {
		nl, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer nl.Close()
		return f(nl)
	})
}

// NewHost makes one host in an anonymous namespace of this process, with lo up and nothing else.
// It needs the same rights as New. The caller closes the host.
func NewHost(name string) (*Host, error) {
	h, err := newHost(name, name, netns.New)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return h, nil
}

// newHost makes a host in a new namespace. create moves its thread into it, even if it fails.
func newHost(name, namespace string, create func() (netns.NsHandle, error)) (*Host, error) {
	h := &Host{name: name}
	err := onOwnThread(func() error {
		ns, err := create()
		if err != nil {
			return explainRefusal(err)
		}
		h.ns = os.NewFile(uintptr(ns), "netns "+namespace)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("new namespace %s: %w", namespace, err)
	}
	if err := h.withLinks(func(nl *netlink.Handle) error { return setUp(nl, "lo") }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: set lo up: %w", namespace, err), h.Close())
	}
	return h, nil
}
