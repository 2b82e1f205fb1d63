// The plot of the throughput: drawn as SVG, from what the page has seen since it was opened.

import { bytes } from './text.js';

// What it shows, in milliseconds, and the distance of the labels: more as more is known.
const spans = [
	{ span: 60_000, step: 15_000 },
	{ span: 120_000, step: 30_000 },
	{ span: 300_000, step: 60_000 },
];
const longest = spans.at(-1).span;
const top = 8, bottom = 18, left = 62, right = 6; // margins
const room = 72; // for a label of the time, and the space beside it

export class Plot {
	constructor(svg, title) {
		this.svg = svg;
		this.title = title;
		this.samples = []; // {at, down, up}: bytes a second; up and down are null where nothing is known
		new ResizeObserver(() => this.draw()).observe(svg);
	}

	add(sample) {
		this.samples.push(sample);
		while (this.samples[0].at < sample.at - longest) {
			this.samples.shift();
		}
		this.draw();
	}

	draw() {
		const { width, height } = this.svg.getBoundingClientRect();
		if (width === 0 || this.samples.length === 0) {
			return;
		}
		this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
		const peak = Math.max(...this.samples.map((s) => Math.max(s.down ?? 0, s.up ?? 0)));
		const most = roundUp(peak);
		const end = this.samples.at(-1).at;
		const known = end - this.samples[0].at;
		const { span, step } = spans.find((s) => known < s.span - 5000) ?? spans.at(-1);
		const x = (at) => left + (width - left - right) * (1 - (end - at) / span);
		const y = (rate) => height - bottom - (height - top - bottom) * (rate / most);
		const parts = [];
		for (const share of [0, 0.5, 1]) {
			const at = y(share * most);
			parts.push(line('grid', left, at, width - right, at));
			parts.push(label(left - 8, at + 4, 'end', bytes(share * most) + '/s'));
		}
		const every = x(end) - x(end - step) < room ? 2 * step : step;
		for (let ago = 0; ago <= span; ago += every) {
			const text = ago === 0 ? 'now' : step < 60_000 ? `−${ago / 1000} s` : `−${ago / 60_000} min`;
			const anchor = ago === span ? 'start' : ago === 0 ? 'end' : 'middle';
			parts.push(label(x(end - ago), height - 3, anchor, text));
		}
		for (const name of ['down', 'up']) {
			for (const run of this.runs(name)) {
				const points = run.map((s) => `${x(s.at).toFixed(1)},${y(s[name]).toFixed(1)}`);
				if (name === 'down') {
					const floor = y(0).toFixed(1);
					const [from, to] = [run[0], run.at(-1)].map((s) => x(s.at).toFixed(1));
					parts.push(shape('path', 'area', `M${from},${floor}L${points.join('L')}L${to},${floor}Z`));
				}
				parts.push(shape('path', name, 'M' + points.join('L')));
			}
		}
		this.svg.replaceChildren(this.title, ...parts);
		this.describe(peak);
	}

	// runs returns the samples without gaps between them.
	runs(name) {
		const all = [[]];
		for (const s of this.samples) {
			if (s[name] === null) {
				all.push([]);
			} else {
				all.at(-1).push(s);
			}
		}
		return all.filter((run) => run.length > 0);
	}

	describe(peak) {
		const last = this.samples.at(-1);
		const rate = (n) => (n === null ? 'unknown' : bytes(n) + ' a second');
		this.title.textContent = `Throughput of the last minutes. Now ${rate(last.down)} to clients, ` +
			`${rate(last.up)} to servers; at most ${rate(peak)}.`;
	}
}

// roundUp returns the next of 1, 2, 5 and 10 times a power of ten, from 1 kB on.
function roundUp(n) {
	let unit = 1000;
	while (unit * 10 < n) {
		unit *= 10;
	}
	return [1, 2, 5, 10].map((f) => f * unit).find((m) => m >= n) ?? unit * 10;
}

function element(name, className, attributes) {
	const made = document.createElementNS('http://www.w3.org/2000/svg', name);
	made.setAttribute('class', className);
	for (const [key, value] of Object.entries(attributes)) {
		made.setAttribute(key, value);
	}
	return made;
}

function line(className, x1, y1, x2, y2) {
	return element('line', className, { x1, y1, x2, y2 });
}

function shape(name, className, d) {
	return element(name, className, { d });
}

function label(x, y, anchor, text) {
	const made = element('text', 'label', { x, y, 'text-anchor': anchor });
	made.textContent = text;
	return made;
}
