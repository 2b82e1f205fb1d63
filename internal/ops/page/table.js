// Tables that are updated in place, so that neither focus nor selection is lost while they change.

import { make, put } from './text.js';

// A column has a head; cell(td, row), which fills a cell; and perhaps value(row), by which rows are sorted.
// One column is the rows' head (isHead). number: its cells are aligned to the right.
export class Table {
	constructor(table, columns, keyOf, sorted = () => {}) {
		this.columns = columns;
		this.keyOf = keyOf;
		this.sorted = sorted;
		this.rows = new Map(); // by key
		this.order = null; // {column, down}; null: as they come
		this.heads = columns.map((c) => this.head(c));
		const head = make('thead', '', make('tr', '', ...this.heads));
		this.body = make('tbody');
		table.append(head, this.body);
	}

	head(column) {
		const th = make('th', column.number ? 'number' : '');
		th.scope = 'col';
		if (!column.value) {
			th.append(column.head);
			return th;
		}
		const button = make('button', 'sort', column.head);
		button.type = 'button';
		button.addEventListener('click', () => {
			const same = this.order?.column === column;
			this.sortBy(column, same ? !this.order.down : Boolean(column.number));
			this.sorted();
		});
		th.append(button);
		return th;
	}

	sortBy(column, down) {
		this.order = { column, down };
		this.columns.forEach((c, i) => {
			if (c === column) {
				this.heads[i].setAttribute('aria-sort', down ? 'descending' : 'ascending');
			} else {
				this.heads[i].removeAttribute('aria-sort');
			}
		});
	}

	// sort returns the rows in the order that the heads show.
	sort(rows) {
		if (!this.order) {
			return rows;
		}
		const { column, down } = this.order;
		const valued = rows.map((row, i) => ({ row, i, value: column.value(row) }));
		valued.sort((a, b) => {
			const order = a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
			return (down ? -order : order) || a.i - b.i;
		});
		return valued.map((v) => v.row);
	}

	// update shows these rows, in this order.
	update(rows) {
		const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
		const keys = new Set(rows.map(this.keyOf));
		for (const [key, tr] of this.rows) {
			if (!keys.has(key)) {
				tr.remove();
				this.rows.delete(key);
			}
		}
		let next = this.body.firstElementChild;
		for (const row of rows) {
			const tr = this.row(row);
			if (tr === next) {
				next = next.nextElementSibling;
			} else {
				this.body.insertBefore(tr, next);
			}
		}
		if (focused?.isConnected && focused !== document.activeElement) {
			focused.focus({ preventScroll: true }); // its row has moved
		}
	}

	row(row) {
		const key = this.keyOf(row);
		let tr = this.rows.get(key);
		if (!tr) {
			tr = make('tr');
			for (const c of this.columns) {
				const cell = make(c.isHead ? 'th' : 'td', `${c.number ? 'number ' : ''}${c.className ?? ''}`);
				if (c.isHead) {
					cell.scope = 'row';
				}
				tr.append(cell);
			}
			this.rows.set(key, tr);
		}
		this.columns.forEach((c, i) => c.cell(tr.children[i], row));
		return tr;
	}
}

// column returns a column of plain text.
export function column(head, text, more = {}) {
	return {
		head,
		value: text,
		cell: (td, row) => {
			put(td, text(row));
			if (more.cut && td.title !== td.textContent) {
				td.title = td.textContent;
			}
		},
		className: more.cut ? 'cut' : '',
		...more,
	};
}
