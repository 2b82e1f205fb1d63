// The page: it asks ftpgate every other second, and shows the answers.

import { Refused, ask, hasToken, needsToken, now, setToken } from './api.js';
import { Detail } from './detail.js';
import { Bans, Findings, Forwards, notices } from './gateway.js';
import { Plot } from './plot.js';
import { Sessions } from './sessions.js';
import { Throughput } from './throughput.js';
import { age, bytes, clock, count, make, many, put } from './text.js';

const interval = 2000; // between two requests for the sessions, in milliseconds
const share = 10; // an answer that takes long is asked for less often: a tenth of the time at most
const byId = (id) => document.getElementById(id);

const mayChange = () => hasToken(); // without a token the page only reads

const throughput = new Throughput();
const plot = new Plot(byId('plot'), byId('plot-text'));
const forwards = new Forwards();
const findings = new Findings(ask);
const bans = new Bans(mayChange, act);
const detail = new Detail(mayChange, act, () => sessions.draw());
const sessions = new Sessions((id) => detail.show(id), () => detail.id, () => askEnded());

let paused = false;
let process = ''; // which ftpgate answered last
let silentSince = null; // when the first request without an answer was made
let lastEnded = 0; // when the ended sessions were asked for
let lastBans = 0;
let silence = 0; // the timer that removes the last message
let stopAsking = () => {}; // ends the wait of the loop

// say shows a message for some seconds. A screen reader reads it aloud.
function say(text) {
	put(byId('said'), text);
	clearTimeout(silence);
	silence = setTimeout(() => put(byId('said'), ''), 15_000);
}

// act carries out a change, and says how it ended.
async function act(what, path, method) {
	try {
		const answer = await ask(path, method);
		say(what(answer));
		lastEnded = lastBans = 0;
	} catch (e) {
		say('Not done: ' + e.message);
	}
	stopAsking();
}

// round asks for everything that is seen, once.
async function round() {
	const began = performance.now();
	const status = await ask('/v1/status');
	const { sessions: running } = await ask('/v1/sessions');
	const took = performance.now() - began;
	const instance = status.pid + ' ' + status.since;
	if (process !== '' && process !== instance) {
		throughput.reset();
		sessions.reset();
		say('ftpgate has started again.');
	}
	process = instance;
	const rates = throughput.measure(status, running);
	plot.add({ at: Date.now(), ...rates });
	showStatus(status, running, rates);
	sessions.showRunning(running, throughput);
	await askEnded();
	if (Date.now() - lastBans > 10_000) {
		bans.show(await ask('/v1/bans'));
		lastBans = Date.now();
	}
	await detail.refresh();
	return took;
}

// askEnded asks for the sessions that have ended, if they are shown: they change slowly.
async function askEnded() {
	if (sessions.showsEnded() && Date.now() - lastEnded > 5000) {
		lastEnded = Date.now();
		sessions.showEnded((await ask('/v1/sessions?state=ended')).sessions);
	}
}

function showStatus(status, running, rates) {
	const where = status.file ? status.file : 'a forward of the command line';
	put(byId('about'), `${status.version} · ${where} · up ${age(now() - Date.parse(status.since))} · ` +
		`process ${status.pid}`);
	document.title = `${many(running.length, 'session')} · ftpgate`;
	const sum = (name) => status.forwards.reduce((n, f) => n + f[name], 0);
	const rate = (n) => (n === null ? '–' : bytes(n) + '/s');
	const tiles = [
		['Sessions', count(running.length), `${count(sum('sessions_total'))} in all`],
		['To clients', rate(rates.down), bytes(throughput.down) + ' in all'],
		['To servers', rate(rates.up), bytes(throughput.up) + ' in all'],
		['Transfers', count(sum('transfers')), `${count(sum('failed'))} failed`],
	];
	tiles.push(['Refused', count(sum('refused')), `${count(status.bans)} banned now`]);
	if (status.conntrack) {
		const { count: entries, max } = status.conntrack;
		tiles.push(['Conntrack', Math.ceil(100 * entries / max) + ' %',
			`${count(entries)} of ${count(max)}`]);
	}
	showTiles(tiles);
	forwards.show(status.forwards);
	showNotices([...notices(status), ...findings.notices]);
}

function showTiles(tiles) {
	const list = byId('tiles');
	while (list.children.length < tiles.length) {
		list.append(make('div', '', make('dt'), make('dd', 'value'), make('dd', 'more')));
	}
	tiles.forEach((texts, i) => texts.forEach((text, j) => put(list.children[i].children[j], text)));
}

function showNotices(all) {
	const list = byId('notices');
	byId('attention').hidden = all.length === 0;
	while (list.children.length > all.length) {
		list.lastElementChild.remove();
	}
	while (list.children.length < all.length) {
		list.append(make('li', '', make('strong'), make('span'), make('span', 'remedy')));
	}
	all.forEach((n, i) => {
		[n.about, n.text, n.remedy].forEach((text, j) => put(list.children[i].children[j], text));
	});
}

// state says whether ftpgate answers. A screen reader reads it aloud when it changes.
function state(name, text) {
	byId('state').dataset.state = name;
	put(byId('state'), text);
}

function failed(e) {
	if (e instanceof Refused && e.status === 401 && !hasToken()) {
		return; // it was forgotten meanwhile
	}
	if (e instanceof Refused && e.status === 401) {
		setToken('');
		gate(`ftpgate ${hasBeenShown() ? 'no longer accepts' : 'does not accept'} this token.`);
		return;
	}
	silentSince ??= Date.now();
	const why = e instanceof Refused ? `: ${e.message}` : '';
	state('silent', `No answer since ${clock(silentSince)}${why}`);
	document.body.dataset.old = 'true'; // what is shown is the last answer
	throughput.reset();
	plot.add({ at: Date.now(), down: null, up: null });
}

const hasBeenShown = () => !byId('page').hidden;

// gate asks for the token, and shows nothing that needs it.
function gate(refusal) {
	for (const id of ['page', 'lock', 'pause']) {
		byId(id).hidden = true;
	}
	detail.close();
	byId('gate').hidden = false;
	put(byId('refusal'), refusal);
	put(byId('about'), '');
	state('waiting', 'A token is needed');
	byId('token').focus();
}

function open() {
	byId('gate').hidden = true;
	byId('page').hidden = false;
	byId('pause').hidden = false;
	byId('lock').hidden = !hasToken();
	put(byId('access'), hasToken() ? '' : 'Read only: no token');
}

// wait ends after a time, or when stopAsking is called, or the page is seen again.
function wait(ms) {
	return new Promise((done) => {
		const timer = ms === null ? 0 : setTimeout(done, ms);
		stopAsking = () => {
			clearTimeout(timer);
			done();
		};
	});
}

async function loop() {
	for (;;) {
		let took = 0;
		if (needsToken && !hasToken()) {
			await wait(null);
			continue;
		}
		if (!paused && document.visibilityState === 'visible') {
			try {
				took = await round();
				if (!hasBeenShown()) {
					open();
					findings.examine();
				}
				silentSince = null;
				delete document.body.dataset.old;
				state('live', paused ? 'Paused' : 'Live');
			} catch (e) {
				failed(e);
				if (!(e instanceof Refused || e instanceof TypeError || e.name === 'TimeoutError')) {
					throw e; // a fault of the page: the console has it
				}
			}
		}
		await wait(Math.max(interval, share * took));
	}
}

byId('gate').addEventListener('submit', (e) => {
	e.preventDefault();
	setToken(byId('token').value.trim());
	byId('token').value = '';
	put(byId('refusal'), '');
	state('waiting', 'Asking ftpgate …');
	stopAsking();
});
byId('lock').addEventListener('click', () => {
	setToken('');
	gate('');
});
byId('pause').addEventListener('click', () => {
	paused = !paused;
	byId('pause').setAttribute('aria-pressed', String(paused));
	throughput.reset();
	state(paused ? 'paused' : 'waiting', paused ? `Paused at ${clock(Date.now())}` : 'Asking ftpgate …');
	stopAsking();
});
document.addEventListener('visibilitychange', () => {
	throughput.reset(); // what happened meanwhile is no rate
	stopAsking();
});

if (needsToken) {
	gate('');
}
loop();
