// The question before a change.

import { put } from './text.js';

const byId = (id) => document.getElementById(id);

// confirm asks, and returns whether the answer is yes. fields: that of a ban are shown, too.
export function confirm(head, text, yes, fields = false) {
	put(byId('confirm-head'), head);
	put(byId('confirm-text'), text);
	put(byId('yes'), yes);
	byId('ban-fields').hidden = !fields;
	const dialog = byId('confirm');
	dialog.returnValue = '';
	dialog.showModal();
	byId('cancel').focus(); // Enter changes nothing
	return new Promise((done) => {
		dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true });
	});
}
