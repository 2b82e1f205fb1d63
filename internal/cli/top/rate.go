package top

import (
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/observe/sessions"
)

// rateTime is the time over which a rate is measured: the counters of connections that the kernel carries are
// read every half second, and a relay's grow by buffers.
const rateTime = 3 * time.Second

// sample is the counters of a session at one time, in bytes.
type sample struct {
	at       time.Time
	up, down int64
}

// meter measures the rates of one session.
type meter struct{ samples []sample }

// rate is bytes per second.
type rate struct {
	up, down int64
	known    bool
}

func (r rate) sum() int64 { return r.up + r.down }

// add returns the meter with another sample. It keeps what is needed to look rateTime back.
func (m meter) add(s sample) meter {
	if n := len(m.samples); n > 0 && !s.at.After(m.samples[n-1].at) {
		return m // the same answer again
	}
	from := 0
	for from+1 < len(m.samples) && s.at.Sub(m.samples[from+1].at) >= rateTime {
		from++
	}
	return meter{append(append([]sample(nil), m.samples[from:]...), s)}
}

// rate returns the rates of the last rateTime. A counter that has shrunk was corrected: the kernel counts
// packets that were sent twice until a transfer has ended.
func (m meter) rate() rate {
	n := len(m.samples)
	if n < 2 {
		return rate{}
	}
	first, last := m.samples[0], m.samples[n-1]
	took := last.at.Sub(first.at).Seconds()
	perSecond := func(bytes int64) int64 { return int64(float64(max(0, bytes)) / took) }
	return rate{perSecond(last.up - first.up), perSecond(last.down - first.down), true}
}

// measure returns the meters of an answer's sessions. before is the meters of the answer before, which came
// at a time, or zero. A session that began since then began with nothing.
func measure(before map[SessionID]meter, last map[string]time.Time, all []Instance) map[SessionID]meter {
	now := make(map[SessionID]meter, len(before))
	for _, i := range all {
		for _, one := range i.Sessions {
			id := SessionID{i.Key, one.ID}
			m, known := before[id]
			if at := last[i.Key]; !known && !at.IsZero() && one.Ended.IsZero() {
				m = meter{[]sample{{at: at}}}
			}
			now[id] = m.add(sampleOf(one, i.At))
		}
	}
	return now
}

func sampleOf(one sessions.Session, at time.Time) sample {
	return sample{at, one.Totals.Up, one.Totals.Down}
}

// text returns a number of bytes per second for people; empty: it is not known yet.
func (r rate) text(bytes int64) string {
	if !r.known {
		return ""
	}
	return terminal.Bytes(bytes)
}
