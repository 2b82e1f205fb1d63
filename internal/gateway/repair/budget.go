package repair

import "time"

const (
	// burst is how many repairs may follow each other at once: more than the reload of any firewall needs.
	burst = 20
	// pause is the time in which one more repair is allowed. Two programs that fight cost next to nothing.
	pause = 10 * time.Second
)

// budget bounds repairs.
type budget struct {
	left   int
	from   time.Time // when left was last refilled
	logged bool      // the log says that it was spent; until it is full again
}

func newBudget() budget { return budget{left: burst} }

// wait returns how long the next repair has to wait.
func (b *budget) wait(now time.Time) time.Duration {
	if b.left == burst {
		b.from = now
		return 0
	}
	if n := int(now.Sub(b.from) / pause); n > 0 {
		b.left = min(b.left+n, burst)
		b.from = b.from.Add(time.Duration(n) * pause)
		b.logged = b.logged && b.left < burst
	}
	if b.left > 0 {
		return 0
	}
	return b.from.Add(pause).Sub(now)
}

// spend counts a repair.
func (b *budget) spend() { b.left-- }
