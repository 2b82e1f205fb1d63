// Text from peers, and numbers, for people. Nothing here makes markup of text: text becomes text nodes only.

// Characters that are not seen, or change how others are seen: control characters, format characters (those
// that change the direction of writing among them), halves of a pair, private and unassigned ones, line
// separators.
const unseen = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

// printable shows such characters as their codes, as ftpgate's commands do.
export function printable(text) {
	return String(text ?? '').replace(unseen, (c) => {
		const code = c.codePointAt(0);
		const [letter, digits] = code < 0x80 ? ['x', 2] : code <= 0xffff ? ['u', 4] : ['U', 8];
		return '\\' + letter + code.toString(16).padStart(digits, '0');
	});
}

// put sets the text of a node, and does nothing where it stands there already.
export function put(node, text) {
	const shown = printable(text);
	if (node.textContent !== shown) {
		node.textContent = shown;
	}
}

// make returns an element with a class, and with text or nodes in it.
export function make(name, className, ...content) {
	const made = document.createElement(name);
	if (className) {
		made.className = className;
	}
	made.append(...content.map((c) => (c instanceof Node ? c : printable(c))));
	return made;
}

// bytes returns a number of bytes as ftpgate's commands do: "52 MB".
export function bytes(n) {
	if (n < 1000) {
		return Math.round(n) + ' B';
	}
	const units = 'kMGTPE';
	let value = n / 1000;
	let unit = 0;
	while (value >= 999.5 && unit < units.length - 1) {
		value /= 1000;
		unit++;
	}
	return (value < 9.95 ? value.toFixed(1) : value.toFixed(0)) + ' ' + units[unit] + 'B';
}

// age returns a time in its largest unit: "3m".
export function age(ms) {
	const s = Math.max(0, Math.floor(ms / 1000));
	if (s < 60) {
		return s + 's';
	}
	if (s < 3600) {
		return Math.floor(s / 60) + 'm';
	}
	return s < 48 * 3600 ? Math.floor(s / 3600) + 'h' : Math.floor(s / 86400) + 'd';
}

// clock returns a time of the day, with the day if that is not today.
export function clock(time) {
	const at = new Date(time);
	const two = (n) => String(n).padStart(2, '0');
	const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
	const today = new Date().toDateString() === at.toDateString();
	return (today ? '' : day) + `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// many counts things: "1 session", "2 sessions".
export function many(n, thing) {
	return `${count(n)} ${thing}${n === 1 ? '' : 's'}`;
}

// count returns a number with its thousands apart: "5,000".
export function count(n) {
	return n.toLocaleString('en');
}
