// The list of what was found: a switch, share and score of each label, and a button for its heat map.

import { digits, percent } from "./answers.js";

export class Legend {
  /**
   * @param {{table: HTMLTableElement, rows: HTMLElement, nothing: HTMLElement}} parts
   * @param {object} on
   * @param {() => void} on.switched a label was switched on or off
   * @param {(name: string | null) => void} on.heat the heat map of a label is wanted, or masks again
   */
  constructor(parts, on) {
    Object.assign(this, parts, { on, off: new Set(), labels: [] });
  }

  /** Numbers of the labels that are switched off. */
  get hidden() {
    return new Set(this.labels.filter(({ name }) => this.off.has(name)).map(({ number }) => number));
  }

  /**
   * Lists a result. A label that was switched off stays so while it has the same name.
   * @param {import("./answers.js").Found} found
   * @param {string | null} heat the label whose heat map is shown
   */
  show(found, heat) {
    this.labels = found.labels;
    const focus = this.rows.contains(document.activeElement) ? document.activeElement.id : null;
    this.rows.replaceChildren(...found.labels.map((label) => this.#row(label, found.kind, heat)));
    if (focus) document.getElementById(focus)?.focus();
    this.table.hidden = !found.labels.length;
    this.table.classList.toggle("no-heat", found.kind !== "segment");
    this.nothing.hidden = found.labels.length > 0;
    this.nothing.textContent = "Nothing was found.";
  }

  /** Lists nothing. */
  clear(text) {
    this.labels = [];
    this.rows.replaceChildren();
    this.table.hidden = true;
    this.nothing.hidden = false;
    this.nothing.textContent = text;
  }

  /** Marks the label at the crosshair. @param {number} number 0 for none */
  mark(number) {
    for (const row of this.rows.children) row.classList.toggle("here", Number(row.dataset.number) === number);
  }

  #row({ number, name, synonyms, share, score, colour }, kind, heat) {
    const row = make("tr", { className: share ? "" : "missing" });
    row.dataset.number = number;
    const box = make("input", { type: "checkbox", id: `show-${number}`, checked: !this.off.has(name) });
    box.addEventListener("change", () => {
      this.off[box.checked ? "delete" : "add"](name);
      this.on.switched();
    });
    const swatch = make("span", { className: "swatch" });
    swatch.style.setProperty("--colour", colour);
    const label = make("label", { htmlFor: box.id }, swatch, make("span", {}, name));
    if (synonyms.length) label.append(make("small", {}, synonyms.join(", ")));
    const bar = make("span", { className: "bar" });
    bar.style.setProperty("--colour", colour);
    bar.style.setProperty("--share", share);
    row.append(
      make("th", { scope: "row" }, make("span", { className: "name" }, box, label), bar),
      make("td", {}, percent(share)), make("td", {}, digits(score)),
    );
    if (kind === "segment") row.append(make("td", { className: "heat-column" }, this.#heatButton(number, name, name === heat)));
    return row;
  }

  #heatButton(number, name, pressed) {
    const button = make("button", { type: "button", id: `heat-${number}`, className: "heat", title: `Heat map of ${name}` });
    button.setAttribute("aria-label", `Heat map of ${name}`);
    button.setAttribute("aria-pressed", pressed);
    button.addEventListener("click", () => this.on.heat(button.getAttribute("aria-pressed") === "true" ? null : name));
    return button;
  }
}

/** An element with properties and children. */
export function make(kind, properties, ...children) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
}
