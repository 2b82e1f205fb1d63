// The lists of sessions: those that run, and those that have ended.

import { now } from './api.js';
import { Table, column } from './table.js';
import { age, bytes, clock, count, make, many, put } from './text.js';

const step = 50; // rows that are shown at first, and added by "Show more"
const byId = (id) => document.getElementById(id);

// address returns an address without its port.
export function address(at) {
	return at.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

// sound reports whether a verdict is no reason to look.
export function sound(verdict) {
	return ['fine', 'waiting', 'server_refused_command'].includes(verdict.code);
}

// doing says what a session does, and what is wrong with it.
function doing(s) {
	const parts = [];
	if (s.transfer) {
		const way = { download: '↓', upload: '↑' }[s.transfer.direction] ?? '↕';
		parts.push(`${way} ${bytes(s.transfer.bytes)} ${s.transfer.file ?? s.transfer.command}`);
	}
	if (s.verdict.code !== 'fine') {
		parts.push(s.verdict.text);
	}
	return parts.join(' · ');
}

// haystack is what a search looks at.
function haystack(s) {
	const all = [s.id, s.forward, s.client, s.server, s.user, s.certificate, s.state, s.mode, s.path,
		s.tls?.client, s.tls?.server, s.transfer?.file, s.transfer?.command, s.verdict.code, s.verdict.text];
	return all.join('\n').toLowerCase();
}

export class Sessions {
	// show shows one session, by its id; current returns the id of the one that is shown; askEnded asks for
	// those that have ended.
	constructor(show, current, askEnded) {
		this.open = show;
		this.current = current;
		this.reset();
		this.shown = step;
		this.byEnded = false;
		this.rates = new Map();
		const redraw = () => this.draw();
		this.tables = {
			running: new Table(byId('running'), this.runningColumns(), (s) => s.id, redraw),
			ended: new Table(byId('ended'), this.endedColumns(), (s) => s.id, redraw),
		};
		byId('show-running').addEventListener('click', () => this.choose(false));
		byId('show-ended').addEventListener('click', () => {
			this.choose(true);
			askEnded().catch(() => {}); // the loop says so, too
		});
		for (const id of ['search', 'failed-only']) {
			byId(id).addEventListener('input', () => {
				this.shown = step;
				this.draw();
			});
		}
		byId('more').addEventListener('click', () => {
			this.shown += step;
			this.draw();
		});
	}

	reset() {
		this.running = [];
		this.ended = null; // not asked for yet
	}

	// common returns the columns that both lists begin with.
	common() {
		return [
			{ head: 'Session', isHead: true, value: (s) => Date.parse(s.since),
				cell: (th, s) => this.name(th, s) },
			column('Client', (s) => address(s.client)),
			column('User', (s) => s.user ?? '', { cut: true }),
			column('Forward', (s) => s.forward, { cut: true }),
		];
	}

	sums() {
		const number = true;
		return [
			column('Down', (s) => bytes(s.totals.bytes_down), { number, value: (s) => s.totals.bytes_down }),
			column('Up', (s) => bytes(s.totals.bytes_up), { number, value: (s) => s.totals.bytes_up }),
			column('Done', (s) => String(s.totals.transfers), { number, value: (s) => s.totals.transfers }),
			column('Failed', (s) => String(s.totals.failed || ''), { number, value: (s) => s.totals.failed }),
		];
	}

	runningColumns() {
		const rate = (s) => this.rates.get(s.id) ?? 0;
		return [
			...this.common(),
			{ head: 'State', value: (s) => s.state, cell: (td, s) => {
				td.dataset.state = sound(s.verdict) ? s.state : 'problem';
				put(td, s.state);
			} },
			column('Age', (s) => age(now() - Date.parse(s.since)),
				{ number: true, value: (s) => now() - Date.parse(s.since) }),
			column('Rate', (s) => (rate(s) >= 1 ? bytes(rate(s)) + '/s' : ''), { number: true, value: rate }),
			...this.sums(),
			column('Doing', doing, { cut: true, className: 'cut wide' }),
		];
	}

	endedColumns() {
		const lasted = (s) => Date.parse(s.ended) - Date.parse(s.since);
		return [
			...this.common(),
			column('Ended', (s) => clock(s.ended), { value: (s) => Date.parse(s.ended), number: true }),
			column('Lasted', (s) => age(lasted(s)), { value: lasted, number: true }),
			...this.sums(),
			{ head: 'Verdict', value: (s) => s.verdict.code, className: 'cut wide', cell: (td, s) => {
				td.dataset.state = sound(s.verdict) ? 'ended' : 'problem';
				put(td, s.verdict.text);
				td.title = td.textContent;
			} },
		];
	}

	// name is the cell with a session's id, which opens it.
	name(th, s) {
		let button = th.firstElementChild;
		if (!button) {
			button = make('button', 'link');
			button.type = 'button';
			button.addEventListener('click', () => this.open(s.id));
			th.append(button);
		}
		put(button, s.id);
		if (s.id === this.current()) {
			button.setAttribute('aria-current', 'true');
		} else {
			button.removeAttribute('aria-current');
		}
	}

	showRunning(all, throughput) {
		this.running = all;
		this.rates = throughput.rates;
		this.draw();
	}

	showEnded(all) {
		this.ended = all;
		this.draw();
	}

	showsEnded() {
		return this.byEnded;
	}

	choose(ended) {
		this.byEnded = ended;
		this.shown = step;
		byId('show-running').setAttribute('aria-pressed', String(!ended));
		byId('show-ended').setAttribute('aria-pressed', String(ended));
		byId('running').hidden = ended;
		byId('ended').hidden = !ended;
		this.draw();
	}

	draw() {
		const all = (this.byEnded ? this.ended : this.running) ?? [];
		const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
		const onlyFailed = byId('failed-only').checked;
		const found = all.filter((s) => {
			const text = words.length > 0 ? haystack(s) : '';
			return words.every((w) => text.includes(w)) && !(onlyFailed && sound(s.verdict));
		});
		const table = this.byEnded ? this.tables.ended : this.tables.running;
		const sorted = table.order ? table.sort(found) : found.toReversed(); // the newest first
		const rows = sorted.slice(0, this.shown);
		table.update(rows);
		put(byId('running-count'), count(this.running.length));
		put(byId('ended-count'), this.ended ? count(this.ended.length) : '');
		byId('more').hidden = rows.length === found.length;
		put(byId('sessions-count'), this.summary(all, found, rows));
	}

	// summary says how many sessions there are, and how many of them are shown.
	summary(all, found, rows) {
		if (this.byEnded && this.ended === null) {
			return 'Asking ftpgate …';
		}
		if (all.length === 0) {
			return this.byEnded ? 'No session has ended yet.' : 'No session runs now.';
		}
		if (found.length === 0) {
			return `None of ${many(all.length, 'session')} matches.`;
		}
		const of = found.length < all.length ? `${count(found.length)} found of ` : '';
		const first = rows.length < found.length ? `The first ${count(rows.length)} of ` : '';
		return first + of + many(all.length, 'session') + '.';
	}
}
