package nftset

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/nft"
)

const (
	// passageTimeout is when the kernel takes a passage out by itself: what a crash leaves.
	passageTimeout = 10 * time.Minute
	// passageRenewal is how often those that are wanted get that time anew; one that fails leaves time
	// for another.
	passageRenewal = 4 * time.Minute
)

// passagesAtOnce bounds a transaction: who changes another table meanwhile waits for it, and its
// elements have to fit into messages whose lists have a length of 16 bits.
const passagesAtOnce = 256

// Passages puts passages into a table of the kernel, keeps them there, and takes them out. Any number of
// goroutines may use it at once.
type Passages struct {
	failed  func(error)
	timeout time.Duration
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when keep has ended

	mu     sync.Mutex
	line   *line
	held   map[passageKey]pinhole.Passthrough // what is wanted, and in the kernel unless somebody took it out
	closed bool
}

// passageKey is a key of a passage map, and which map.
type passageKey struct {
	from, at netip.Addr
	ports    forward.PortRange
}

func keyOf(p pinhole.Passthrough) passageKey { return passageKey{p.From, p.Listen, p.Ports} }

// OpenPassages connects to the nftables of the network namespace that it is called in, for the
// passages of one of ftpgate's own tables; the table may come later. failed is told why passages could
// not be renewed when their time came: ENOENT says that the table is gone or a map of it. It
// may call every method but Close. The caller closes it.
func OpenPassages(table string, failed func(error)) (*Passages, error) {
	return openPassages(table, failed, passageRenewal, passageTimeout)
}

func openPassages(table string, failed func(error), renewal, timeout time.Duration) (*Passages, error) {
	if !nft.OwnTable(table) {
		return nil, fmt.Errorf("nft: table %s is not ftpgate's own", table)
	}
	l, err := openLine(table)
	if err != nil {
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	p := &Passages{
		failed:  failed,
		timeout: timeout,
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		line:    l,
		held:    map[passageKey]pinhole.Passthrough{},
	}
	go p.keep(renewal)
	return p, nil
}

// Add has the kernel let the passage's client through, however often and until Remove; it returns when
// that holds. Again is no error. All addresses are of one family, and the client has no other passage for
// these ports there. errors.Is tells ENOENT (the table is gone, or has no maps for these ports),
// ENFILE (there are ruleset.MaxPassages) and net.ErrClosed.
func (p *Passages) Add(passage pinhole.Passthrough) error {
	if err := p.add(passage); err != nil {
		return fmt.Errorf("nft: add passage %s: %w", passage, err)
	}
	return nil
}

func (p *Passages) add(passage pinhole.Passthrough) error {
	if ports := passage.Ports; !passage.OneFamily() || ports.IsEmpty() || ports.First > ports.Last {
		return errors.New("want addresses of one family, and ports")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	before, held := p.held[keyOf(passage)]
	if held && before != passage {
		return fmt.Errorf("the client has another: %s", before)
	}
	if held {
		return p.again([]pinhole.Passthrough{passage})
	}
	err := p.line.run(p.timeout, passageChanges(unix.NFT_MSG_NEWSETELEM, passage)...)
	if errors.Is(err, unix.EEXIST) { // another process has left it
		err = p.put(passage)
	}
	if err == nil {
		p.held[keyOf(passage)] = passage
	}
	return err
}

// Remove takes a passage out; it returns when nobody new can come through. Connections that have come
// through go on. A passage that is not there, or that somebody took away with its table, is no
// error. After an error the kernel takes it out within 10 minutes.
func (p *Passages) Remove(passage pinhole.Passthrough) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("nft: remove passage %s: %w", passage, net.ErrClosed)
	}
	if p.held[keyOf(passage)] != passage {
		return nil
	}
	delete(p.held, keyOf(passage))
	gone := passageChanges(unix.NFT_MSG_DELSETELEM, passage)
	err := p.line.run(0, gone...)
	if errors.Is(err, unix.ENOENT) {
		err = p.line.removeEach(gone)
	}
	if err != nil {
		return fmt.Errorf("nft: remove passage %s: %w", passage, err)
	}
	return nil
}

// Renew has every passage that was added and not removed stand in the kernel, with its time anew. To those
// that are there it makes no difference. It is for after the table was installed again;
// nobody has to call it for the time. The error names ranges of ports.
func (p *Passages) Renew() error {
	var failed []error
	for set, passages := range p.bySet() {
		for batch := range slices.Chunk(passages, passagesAtOnce) {
			err := p.renew(batch)
			if err != nil {
				failed = append(failed, fmt.Errorf("nft: renew passages of ports %s: %w", set.ports, err))
			}
			if errors.Is(err, unix.ENOENT) {
				break // the others would be told the same
			}
		}
	}
	return errors.Join(failed...)
}

// Ranges returns the ranges of the passages that are wanted, in no order. Their maps are to stay in the
// table whatever the forwards say (ruleset.Build).
func (p *Passages) Ranges() []forward.PortRange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ranges []forward.PortRange
	seen := map[forward.PortRange]bool{}
	for key := range p.held {
		if !seen[key.ports] {
			seen[key.ports] = true
			ranges = append(ranges, key.ports)
		}
	}
	return ranges
}

// Close disconnects from the kernel. Passages that are open stay for up to 10 minutes, unless their table
// goes before. The second time it does nothing.
func (p *Passages) Close() error {
	p.mu.Lock()
	again := p.closed
	if p.closed = true; !again {
		close(p.stop)
	}
	p.mu.Unlock()
	if <-p.done; again {
		return nil
	}
	if err := p.line.close(); err != nil {
		return fmt.Errorf("nft: close netlink: %w", err)
	}
	return nil
}

// keep renews the passages until Close.
func (p *Passages) keep(renewal time.Duration) {
	defer close(p.done)
	clock := time.NewTicker(renewal)
	defer clock.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-clock.C:
			if err := p.Renew(); err != nil {
				p.failed(err)
			}
		}
	}
}

// bySet returns what is held, by the set that it is in.
func (p *Passages) bySet() map[setOf][]pinhole.Passthrough {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := map[setOf][]pinhole.Passthrough{}
	for _, passage := range p.held {
		set := passageElement(passesTo, passage).set()
		sets[set] = append(sets[set], passage)
	}
	return sets
}

// renew puts passages of one set in anew, as far as they are still held.
func (p *Passages) renew(passages []pinhole.Passthrough) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	passages = slices.DeleteFunc(passages, func(x pinhole.Passthrough) bool { return p.held[keyOf(x)] != x })
	if p.closed || len(passages) == 0 {
		return nil
	}
	return p.again(passages)
}

// again puts passages of one set in anew. Deletion and addition are one transaction, and whatever packet
// comes meanwhile finds the old element or the new one. The kernel could give an element its time
// anew without that, but not before Linux 6.12, and an older one does not say so.
func (p *Passages) again(passages []pinhole.Passthrough) error {
	come := passageChanges(unix.NFT_MSG_NEWSETELEM, passages...)
	err := p.line.run(p.timeout, append(passageChanges(unix.NFT_MSG_DELSETELEM, passages...), come...)...)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = p.line.run(p.timeout, append(passageChanges(destroySetElement, passages...), come...)...)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err
	}
	for _, passage := range passages { // the kernel cannot destroy
		if err := p.put(passage); err != nil {
			return err
		}
	}
	return nil
}

// put puts one passage in, whatever is there of it. If it is there, it is away for a moment.
func (p *Passages) put(passage pinhole.Passthrough) error {
	if err := p.line.removeEach(passageChanges(unix.NFT_MSG_DELSETELEM, passage)); err != nil {
		return err
	}
	return p.line.run(p.timeout, passageChanges(unix.NFT_MSG_NEWSETELEM, passage)...)
}

// passageChanges are changes of all elements of passages, those of one set together.
func passageChanges(verb uint16, passages ...pinhole.Passthrough) []change {
	changes := make([]change, 0, 2*len(passages))
	for _, k := range []kind{passesTo, passesAs} {
		for _, passage := range passages {
			changes = append(changes, change{verb, passageElement(k, passage)})
		}
	}
	return changes
}
