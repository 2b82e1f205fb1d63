// The admin API, as docs/api.md has it.

// The token is in this variable only: neither in storage, nor in a cookie, nor in an address.
let token = '';

// Whether this address answers only with a token.
export const needsToken = document.documentElement.dataset.access === 'token';

export function setToken(text) {
	token = text;
}

export function hasToken() {
	return token !== '';
}

// Refused is an answer of ftpgate that is an error.
export class Refused extends Error {
	constructor(status, answer) {
		super(answer.error + (answer.remedy ? ': ' + answer.remedy : ''));
		this.status = status;
	}
}

// skew is how far ftpgate's clock is ahead of this browser's, in milliseconds.
let skew = 0;

// now returns ftpgate's time.
export function now() {
	return Date.now() + skew;
}

const patience = 30_000; // for an answer, in milliseconds

// ask sends a request and returns the answer, or null if that has no content.
export async function ask(path, method = 'GET') {
	if (needsToken && token === '') { // ftpgate would log the attempt
		throw new Refused(401, { error: 'no token' });
	}
	const headers = token === '' ? {} : { Authorization: 'Bearer ' + token };
	const answer = await fetch(path, {
		method, headers, cache: 'no-store', credentials: 'omit', redirect: 'error',
		referrerPolicy: 'no-referrer',
		signal: AbortSignal.timeout(patience),
	});
	const ahead = Date.parse(answer.headers.get('Date')) - Date.now();
	skew = Math.abs(ahead) > 2000 ? ahead : 0; // the header has whole seconds
	if (!answer.ok) {
		const why = await answer.json().catch(() => ({ error: 'status ' + answer.status }));
		throw new Refused(answer.status, why);
	}
	return answer.status === 204 ? null : answer.json();
}
