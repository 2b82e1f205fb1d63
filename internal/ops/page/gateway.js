// What is not about sessions: forwards, what needs attention, doctor's findings, bans.

import { confirm } from './confirm.js';
import { now } from './api.js';
import { Table, column } from './table.js';
import { age, bytes, clock, count, make, many, put } from './text.js';

const mostRows = 100; // of forwards, and of bans
const byId = (id) => document.getElementById(id);

// sinceText says for how long something has been so.
const sinceText = (time) => 'for ' + age(now() - Date.parse(time));

function health(f) {
	if (f.problem) {
		return { state: 'problem', text: f.health ? 'silent ' + sinceText(f.health.since) : f.problem };
	}
	if (!f.health) {
		return { state: 'unknown', text: 'not checked' };
	}
	return { state: 'good', text: 'answers ' + sinceText(f.health.since) };
}

export class Forwards {
	constructor() {
		const number = true;
		// A forward with tracking none has no numbers: ftpgate does not follow its sessions.
		const value = (name) => ({ number, value: (f) => f[name] ?? -1 });
		const sum = (head, name) => column(head, (f) => name in f ? count(f[name]) : '', value(name));
		const size = (head, name) => column(head, (f) => name in f ? bytes(f[name]) : '', value(name));
		this.table = new Table(byId('forwards'), [
			{ ...column('Forward', (f) => f.name, { cut: true }), isHead: true },
			{ head: 'Server answers', value: (f) => health(f).state, cell: (td, f) => {
				td.dataset.state = health(f).state;
				put(td, health(f).text);
			} },
			column('Clients connect to', (f) => f.listen),
			column('Server', (f) => f.server, { cut: true }),
			column('Tracking', (f) => f.tracking),
			column('Data', (f) => f.data_path),
			column('FTPS', (f) => f.ftps),
			sum('Sessions', 'sessions'), sum('Transfers', 'transfers'), sum('Failed', 'failed'),
			sum('Refused', 'refused'), size('Down', 'bytes_down'), size('Up', 'bytes_up'),
		], (f) => f.name, () => this.draw());
		this.all = [];
	}

	show(all) {
		this.all = all;
		this.draw();
	}

	draw() {
		let sorted = this.table.sort(this.all);
		if (!this.table.order && sorted.length > mostRows) { // those with a problem first
			sorted = [...sorted.filter((f) => f.problem), ...sorted.filter((f) => !f.problem)];
		}
		this.table.update(sorted.slice(0, mostRows));
		const hidden = this.all.length - mostRows;
		put(byId('forwards-count'), hidden > 0 ? `${many(hidden, 'more forward')} not shown.` : '');
	}
}

// notices returns what an operator should look at: {about, text, remedy}.
export function notices(status) {
	const all = [];
	for (const f of status.forwards.filter((f) => f.problem)) {
		all.push({ about: f.name, text: f.problem, remedy: f.health?.remedy });
	}
	for (const text of status.warnings) {
		all.push({ about: 'ftpgate', text });
	}
	if (status.last_reload && !status.last_reload.ok) {
		const { at, error } = status.last_reload; // a line for each fault
		all.push(...error.split('\n').map((text) => ({ about: `Reload at ${clock(at)}`, text })));
	}
	for (const c of status.certificates.filter((c) => c.warning)) {
		const text = `the certificate in ${c.file} ${c.warning}: ${clock(c.expires)}`;
		all.push({ about: c.forward, text });
	}
	const most = 20;
	if (all.length <= most) {
		return all;
	}
	const text = `${count(all.length - most)} more: ftpgate status has them all`;
	return [...all.slice(0, most), { about: 'ftpgate', text }];
}

export class Findings {
	constructor(ask) {
		this.ask = ask;
		this.notices = []; // as those of notices
		byId('examine').addEventListener('click', () => this.examine());
	}

	async examine() {
		put(byId('doctor-when'), 'Examining …');
		byId('examine').disabled = true;
		try {
			this.show(await this.ask('/v1/doctor'));
		} catch (e) {
			put(byId('doctor-when'), e.message);
		}
		byId('examine').disabled = false;
	}

	show({ at, findings }) {
		const sound = findings.filter((f) => f.level === 'ok').length;
		const rank = ['fault', 'warning', 'info'];
		const bad = findings.filter((f) => f.level !== 'ok');
		bad.sort((a, b) => rank.indexOf(a.level) - rank.indexOf(b.level));
		put(byId('doctor-when'), `${many(bad.length, 'finding')}, ${many(sound, 'check')} passed, ` +
			`at ${clock(at)}`);
		const levels = ['fault', 'warning'].map((l) => many(findings.filter((f) => f.level === l).length, l));
		const some = levels.filter((l) => !l.startsWith('0 '));
		this.notices = some.length === 0 ? [] : [{ about: 'Doctor', text: `${some.join(', ')}; see below` }];
		byId('findings').replaceChildren(...bad.slice(0, mostRows).map((f) => {
			const about = make('span', 'about', f.forward ?? 'this host');
			const text = make('div', '', about, make('span', 'text', f.text));
			if (f.remedy) {
				text.append(make('span', 'remedy', f.remedy));
			}
			const level = make('span', 'level', f.level);
			level.dataset.state = { fault: 'problem', warning: 'warning' }[f.level] ?? 'unknown';
			return make('li', '', level, text);
		}));
	}
}

// bannedName returns a prefix as people write it: an address alone without its length.
export function bannedName(prefix) {
	return prefix.replace(prefix.includes(':') ? /\/128$/ : /\/32$/, '');
}

export class Bans {
	constructor(mayChange, act) {
		this.table = new Table(byId('bans'), [
			{ ...column('Address', (b) => bannedName(b.prefix)), isHead: true },
			column('Since', (b) => clock(b.since)),
			column('Until', (b) => (b.until ? clock(b.until) : 'lifted')),
			column('Reason', (b) => b.reason ?? '', { cut: true, className: 'cut wide' }),
			{ head: '', cell: (td, b) => {
				if (mayChange() && !td.firstElementChild) {
					const lift = make('button', '', 'Lift …');
					lift.type = 'button';
					lift.setAttribute('aria-label', 'Lift the ban of ' + b.prefix);
					lift.addEventListener('click', async () => {
						const what = `Clients from ${bannedName(b.prefix)} can connect again.`;
						if (await confirm('Lift the ban', what, 'Lift the ban')) {
							act(() => `The ban of ${bannedName(b.prefix)} is lifted.`,
								'/v1/bans?address=' + encodeURIComponent(b.prefix), 'DELETE');
						}
					});
					td.append(lift);
				}
			} },
		], (b) => b.prefix);
	}

	show({ bans, denied }) {
		this.table.update(bans.slice(0, mostRows));
		byId('bans').parentElement.hidden = bans.length === 0;
		const hidden = bans.length - mostRows;
		const texts = [bans.length === 0 ? 'Nobody is banned.' : ''];
		if (hidden > 0) {
			texts.push(`${many(hidden, 'more ban')} not shown.`);
		}
		if (denied > 0) {
			texts.push(`The file denies ${denied === 1 ? '1 address or prefix' :
				count(denied) + ' addresses and prefixes'}.`);
		}
		put(byId('bans-count'), texts.join(' '));
	}
}
