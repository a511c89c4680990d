// What is at the crosshair: the label at once, from the masks; the score of each label a moment later, from the server.

import { digits } from "./answers.js";
import { isAbort } from "./api.js";
import { make } from "./legend.js";

const QUIET = 60; // milliseconds that the crosshair rests before the server is asked

export class Readout {
  /** @param {{place: HTMLElement, keys: HTMLElement}} parts where it is written, and what stands there while there is no crosshair */
  constructor(parts) {
    Object.assign(this, parts, { timer: 0, pending: null });
  }

  /**
   * Tells of a point.
   * @param {{x: number, y: number} | null} point
   * @param {{number: number, name: string, score: number | null, colour: string}[]} labels of the picture
   * @param {number} number of the label at the point, 0 for none
   * @param {((signal: AbortSignal) => Promise<object>) | null} ask gets the scores there; null where the server has none
   */
  show(point, labels, number, ask) {
    clearTimeout(this.timer);
    this.pending?.abort();
    this.keys.hidden = point !== null;
    if (!point) {
      this.place.replaceChildren();
      return;
    }
    const label = labels.find((one) => one.number === number);
    const rows = label && !ask ? [{ ...label, mean: true }] : [];
    this.#write(point, label?.name ?? "background", rows, number);
    if (!ask) return;
    this.pending = new AbortController();
    const { signal } = this.pending;
    this.timer = setTimeout(async () => {
      try {
        const { scores } = await ask(signal);
        const colours = new Map(labels.map((one) => [one.number, one.colour]));
        const told = scores.map((one) => ({ ...one, name: one.label, colour: colours.get(one.number) ?? "" }));
        if (!signal.aborted) this.#write(point, label?.name ?? "background", told.sort((one, other) => (other.score ?? -1) - (one.score ?? -1)), number);
      } catch (error) {
        if (!isAbort(error)) this.#write(point, label?.name ?? "background", [], number);
      }
    }, QUIET);
  }

  #write({ x, y }, name, rows, number) {
    const place = make("span", { className: "place" }, `${x}, ${y}`);
    const scores = rows.map((row) => {
      const item = make("li", { className: row.number === number ? "wins" : "" });
      const swatch = make("span", { className: "swatch" });
      swatch.style.setProperty("--colour", row.colour || "transparent");
      item.append(swatch, `${row.name} `, make("b", {}, digits(row.score)), row.mean ? " on average" : "");
      return item;
    });
    this.place.replaceChildren(make("p", {}, make("strong", {}, name), " ", place), make("ul", {}, ...scores));
  }
}
