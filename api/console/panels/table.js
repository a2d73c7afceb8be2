// A table whose rows are kept by key and whose cells are written only when they differ, so that a
// button keeps its focus while the figures around it change. Narrow screens show a row as a card;
// the roles are set because `display: grid` would take them away from a screen reader.

import { element, setAttribute, setText } from "../dom.js";

export class Table {
  /**
   * `columns`: [{ name, class, cell(row) }]; `cell` gives a text, or a { text, tone, title },
   * or, where `make(row)` is there, that makes the content once and `cell(row, td)` renews it.
   */
  constructor(box, caption, columns, empty) {
    this.box = box;
    this.columns = columns;
    this.rows = new Map();
    this.body = element("tbody", { role: "rowgroup" });
    const heads = columns.map((column) =>
      element("th", { scope: "col", role: "columnheader", class: column.class }, column.name),
    );
    this.table = element(
      "table",
      { role: "table" },
      element("caption", { class: "unseen" }, caption),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, heads)),
      this.body,
    );
    this.empty = element("p", { class: "note" }, empty);
    box.append(this.table, this.empty);
    this.show([], () => "");
  }

  show(rows, key) {
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    const kept = new Set();
    rows.forEach((row, index) => {
      const name = key(row);
      kept.add(name);
      if (!this.rows.has(name)) this.rows.set(name, this.make(row));
      const made = this.rows.get(name);
      if (this.body.children[index] !== made.tr)
        this.body.insertBefore(made.tr, this.body.children[index] ?? null);
      this.renew(made, row);
    });
    for (const [name, made] of this.rows) {
      if (kept.has(name)) continue;
      made.tr.remove();
      this.rows.delete(name);
    }
  }

  make(row) {
    const cells = this.columns.map((column, index) => {
      const attributes = { class: column.class, "data-label": column.name };
      const content = column.make ? column.make(row) : element("span", { class: "text" });
      return index === 0
        ? element("th", { ...attributes, scope: "row", role: "rowheader" }, content)
        : element("td", { ...attributes, role: "cell" }, content);
    });
    return { tr: element("tr", { role: "row" }, cells), cells };
  }

  renew({ cells }, row) {
    this.columns.forEach((column, index) => {
      const cell = cells[index];
      const said = column.cell?.(row, cell);
      if (said === undefined) return;
      const { text, tone, title } = typeof said === "object" ? said : { text: said };
      const node = cell.firstChild;
      setText(node, text);
      setAttribute(node, "data-tone", tone ?? "");
      if (title) setAttribute(node, "title", title);
    });
  }
}
