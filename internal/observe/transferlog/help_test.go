package transferlog

// Counts returns the numbers of written and of missing lines, summed over all files.
func (l *Log) Counts() (written, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outputs {
		written += o.written
		lost += o.loss.lost
	}
	return written, lost + l.overflow.lost*uint64(len(l.outputs))
}
