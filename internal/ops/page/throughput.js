// Rates, from the sums in two answers.

export class Throughput {
	constructor() {
		this.down = this.up = 0; // bytes since ftpgate's start
		this.reset();
	}

	// reset forgets the last answer: the next one gives no rates.
	reset() {
		this.at = null;
		this.names = '';
		this.sessions = new Map(); // their bytes, by id
		this.rates = new Map(); // bytes a second, by id
	}

	// measure returns the rates of all sessions together, in bytes a second; null: unknown. A forward's sums
	// have the transfers that are over; those that run have theirs. A transfer that ends between the answers
	// may be in neither: the sums never fall, so that it counts in the next round.
	measure(status, running) {
		const at = performance.now();
		let down = 0, up = 0;
		for (const f of status.forwards) {
			down += f.bytes_down ?? 0; // tracking none has no sums
			up += f.bytes_up ?? 0;
		}
		for (const s of running) {
			down += s.transfer?.direction === 'download' ? s.transfer.bytes : 0;
			up += s.transfer?.direction === 'upload' ? s.transfer.bytes : 0;
		}
		const names = JSON.stringify(status.forwards.map((f) => f.name));
		const known = this.at !== null && this.names === names;
		const seconds = (at - this.at) / 1000;
		if (known) {
			down = Math.max(down, this.down);
			up = Math.max(up, this.up);
		}
		const rates = known ? { down: (down - this.down) / seconds, up: (up - this.up) / seconds } :
			{ down: null, up: null };
		this.measureSessions(running, seconds);
		Object.assign(this, { at, names, down, up });
		return rates;
	}

	measureSessions(running, seconds) {
		const before = this.sessions;
		this.sessions = new Map();
		this.rates = new Map();
		for (const s of running) {
			const sum = s.totals.bytes_up + s.totals.bytes_down;
			this.sessions.set(s.id, sum);
			const last = before.get(s.id);
			const rate = last === undefined ? s.transfer?.rate ?? 0 : Math.max(0, (sum - last) / seconds);
			this.rates.set(s.id, rate);
		}
	}
}
