// One session: its verdict, and its time line.

import { Refused, ask } from './api.js';
import { confirm } from './confirm.js';
import { bannedName } from './gateway.js';
import { address, sound } from './sessions.js';
import { Table, column } from './table.js';
import { bytes, clock, make, put } from './text.js';

const byId = (id) => document.getElementById(id);

export class Detail {
	// changed is called when another session is shown, or none.
	constructor(mayChange, act, changed) {
		this.changed = changed;
		this.mayChange = mayChange;
		this.act = act;
		this.id = null; // of the session that is shown; null: none
		this.session = null;
		this.from = null; // what had the focus before
		this.events = new Table(byId('events'), [
			{ ...column('Time', (e) => e.after), value: null, number: true },
			{ head: 'What', cell: (td, e) => {
				td.dataset.kind = e.kind;
				put(td, e.kind + (e.data ? ' #' + e.data : ''));
			} },
			{ ...column('Text', (e) => e.text), value: null, className: 'text' },
		], (e) => e.key);
		byId('close').addEventListener('click', () => this.close());
		document.addEventListener('keydown', (e) => {
			if (e.key === 'Escape' && !byId('confirm').open && this.id !== null) {
				this.close();
			}
		});
		byId('kill').addEventListener('click', () => this.kill());
		byId('ban').addEventListener('click', () => this.ban());
	}

	async show(id) {
		this.from = document.activeElement;
		this.id = id;
		this.session = null;
		put(byId('detail-head'), 'Session ' + id);
		put(byId('verdict'), 'Asking ftpgate …');
		byId('verdict').dataset.state = 'unknown';
		byId('actions').hidden = true;
		byId('facts').replaceChildren();
		this.events.update([]);
		byId('detail').hidden = false;
		document.body.dataset.detail = 'open';
		byId('detail-head').focus();
		this.changed();
		await this.refresh().catch(() => {}); // the loop says so, too
	}

	close() {
		if (this.id === null) {
			return;
		}
		this.id = null;
		byId('detail').hidden = true;
		delete document.body.dataset.detail;
		this.changed();
		if (this.from?.isConnected) {
			this.from.focus();
		} else {
			byId('sessions').focus();
		}
	}

	// refresh asks for the session again, unless it has ended.
	async refresh() {
		const id = this.id;
		if (id === null || this.session?.ended) {
			return;
		}
		try {
			const answer = await ask('/v1/sessions/' + encodeURIComponent(id));
			if (this.id === id) {
				this.draw(answer);
			}
		} catch (e) {
			if (!(e instanceof Refused) || e.status !== 404) {
				throw e;
			}
			put(byId('verdict'), 'ftpgate no longer has this session.');
			byId('actions').hidden = true;
		}
	}

	draw(s) {
		this.session = s;
		const verdict = byId('verdict');
		verdict.dataset.state = sound(s.verdict) ? 'good' : 'problem';
		if (verdict.children.length === 0) {
			verdict.replaceChildren(make('strong'), make('span', 'remedy'));
		}
		put(verdict.children[0], s.verdict.text);
		put(verdict.children[1], s.verdict.remedy ?? '');
		byId('actions').hidden = !this.mayChange() || Boolean(s.ended);
		this.drawFacts(s);
		const began = Date.parse(s.since);
		this.events.update(s.events.map((e, i) => ({
			...e, key: i, after: '+' + ((Date.parse(e.at) - began) / 1000).toFixed(3),
		})));
	}

	drawFacts(s) {
		const legs = [s.tls?.client && 'client ' + s.tls.client, s.tls?.server && 'server ' + s.tls.server];
		const facts = [
			['State', s.state], ['User', s.user], ['Forward', `${s.forward} (${s.tracking})`],
			['Client', s.client], ['Gateway', s.gateway], ['Server', s.server],
			['Certificate', s.certificate], ['TLS', legs.filter(Boolean).join(', ') || 'none'],
			['Data', [s.mode, s.path && 'by the ' + s.path].filter(Boolean).join(' ')],
			['Transfers', `${s.totals.transfers} done, ${s.totals.failed} failed`],
			['Bytes', `${bytes(s.totals.bytes_down)} down, ${bytes(s.totals.bytes_up)} up`],
			['Began', clock(s.since)], ['Ended', s.ended && clock(s.ended)],
			['File', s.transfer?.file], ['Refused', s.refused || ''],
		].filter(([, text]) => text !== undefined && text !== '');
		const list = byId('facts');
		if (list.children.length !== facts.length) {
			list.replaceChildren(...facts.map(() => make('div', '', make('dt'), make('dd'))));
		}
		facts.forEach(([name, text], i) => {
			put(list.children[i].children[0], name);
			put(list.children[i].children[1], text);
		});
	}

	async kill() {
		const s = this.session;
		const who = s.user ? `${s.user} from ${address(s.client)}` : address(s.client);
		if (await confirm(`End session ${s.id}`, `${who} loses the connection now, and so does the server.`,
			'End the session')) {
			const path = '/v1/sessions/' + encodeURIComponent(s.id);
			await this.act(() => `Session ${s.id} is ended.`, path, 'DELETE');
		}
	}

	async ban() {
		byId('ban-address').value = address(this.session.client);
		byId('ban-reason').value = '';
		const what = 'All sessions from there end now, and no new one is let in.';
		if (await confirm('Ban the client', what, 'Ban', true)) {
			const query = new URLSearchParams({ address: byId('ban-address').value.trim() });
			for (const [name, id] of [['for', 'ban-time'], ['reason', 'ban-reason']]) {
				if (byId(id).value) {
					query.set(name, byId(id).value);
				}
			}
			const done = (b) => `${bannedName(b.prefix)} is banned; sessions that ended: ${b.ended_sessions}.`;
			await this.act(done, '/v1/bans?' + query, 'POST');
		}
	}
}
