// Mode, words and settings, and the question that they make.

import { Knowledge, offer, splitLabels } from "./labels.js";
import { make } from "./legend.js";

const TYPING = 80, SLIDING = 40, GUESSING = 700; // milliseconds of quiet before the server is asked
const COUNTS = 12; // regions that one can choose
const MODES = {
  segment: { name: "Words to find", placeholder: "dog, cat|kitten, grass", hint: "Commas between words, | between synonyms." },
  regions: { name: "Words that name the regions", placeholder: "no words needed", hint: "Without words, regions are numbered. With words, they are named." },
  discover: { name: "What to look for", placeholder: "no word needed", hint: "Finds the one thing that stands out: any, or the one you name." },
};
const PROMPTINGS = { shared: "Shared: at once, no new pass", joint: "Joint: a pass with all words", "per-label": "Per label: a pass a word" };
const EDGES = { none: "As they are", guided: "Smooth, to the picture's (guided)", pamr: "Sharp, to the picture's (PAMR)" };

export class Form {
  /**
   * @param {(id: string) => HTMLElement} part
   * @param {object} facts of /v1/models
   * @param {(wait: number) => void} onChange the question changed; ask after so many milliseconds of quiet
   */
  constructor(part, facts, onChange) {
    Object.assign(this, { part, facts, onChange, mode: "segment", typed: { segment: "", regions: "", discover: "" }, chosen: {} });
    this.knowledge = new Knowledge(facts.loaded);
    part("refine").replaceChildren(...facts.refiners.map((name) => make("option", { value: name }, EDGES[name] ?? name)));
    part("prompting").replaceChildren(...facts.promptings.map((name) => make("option", { value: name }, PROMPTINGS[name] ?? name)));
    part("count").append(...Array.from({ length: COUNTS - 1 }, (_, index) => make("option", { value: index + 2 }, `${index + 2}`)));
    this.#listen();
    this.#listKnownWords();
    this.#showMode();
  }

  /** Words in the field. */
  get words() {
    return this.part("words").value;
  }

  set words(text) {
    this.part("words").value = this.typed[this.mode] = text;
    this.#markKnownWords();
  }

  /** Begins anew with words. */
  begin(words) {
    this.choose("segment");
    this.words = words;
  }

  /** Goes to a mode. @param {"segment" | "regions" | "discover"} mode */
  choose(mode) {
    document.querySelector(`#modes input[value=${mode}]`).checked = true;
    this.mode = mode;
    this.#showMode();
  }

  /**
   * What the server is to be asked; null while there is nothing to ask.
   * @returns {{kind: string, body: object} | null}
   */
  question() {
    const labels = splitLabels(this.words);
    const common = { method: this.part("method").value, refine: this.part("refine").value };
    if (this.mode === "regions") {
      return { kind: this.mode, body: { ...common, labels: labels.length ? labels : null, regions: Number(this.part("count").value) || null } };
    }
    if (this.mode === "discover") {
      return { kind: this.mode, body: { ...common, labels: labels.length ? labels : null, match: labels.length > 1 && this.part("match").checked } };
    }
    return labels.length ? { kind: this.mode, body: { ...common, labels, prompting: this.part("prompting").value, background: this.#background() } } : null;
  }

  #background() {
    const choice = this.part("background").value;
    if (choice === "threshold") return Number(this.part("threshold").value);
    return choice === "word" ? this.part("background-word").value.trim() || "none" : choice;
  }

  #listen() {
    const { part } = this;
    document.getElementById("modes").addEventListener("change", (event) => { this.choose(event.target.value); this.onChange(0); });
    part("words").addEventListener("input", () => this.#type());
    part("words").addEventListener("keydown", (event) => event.key === "Enter" && this.onChange(0));
    part("background-word").addEventListener("input", () => {
      offer(part("background-words"), this.knowledge.complete(part("background-word").value));
      this.onChange(this.#patience([part("background-word").value]));
    });
    part("threshold").addEventListener("input", () => { this.#showThreshold(); this.onChange(SLIDING); });
    part("method").addEventListener("change", () => { this.chosen[this.mode] = part("method").value; this.#showMethod(); this.onChange(0); });
    part("background").addEventListener("change", () => { this.#showBackground(); this.onChange(0); });
    for (const name of ["prompting", "refine", "count", "match"]) part(name).addEventListener("change", () => this.onChange(0));
  }

  #type() {
    this.typed[this.mode] = this.words;
    offer(this.part("suggestions"), this.knowledge.complete(this.words));
    this.#markKnownWords();
    this.onChange(this.#patience(splitLabels(this.words)));
  }

  /** A word that a closed model does not know is probably half typed. */
  #patience(labels) {
    return this.knowledge.knows(labels) ? TYPING : GUESSING;
  }

  #showMode() {
    const { part } = this, { name, placeholder, hint } = MODES[this.mode];
    part("words-label").textContent = name;
    part("words").placeholder = placeholder;
    part("words-hint").textContent = hint;
    this.words = this.typed[this.mode];
    offer(part("suggestions"), []);
    for (const block of document.querySelectorAll("[data-modes]")) block.hidden = block.dataset.modes !== this.mode;
    const methods = this.facts.methods[this.mode];
    part("method").replaceChildren(...methods.map((method) => make("option", { value: method.name }, method.name)));
    part("method").value = this.chosen[this.mode] ?? (this.mode === "segment" ? this.facts.default : methods[0].name);
    this.#showMethod();
  }

  #showMethod() {
    const { part } = this;
    const method = this.facts.methods[this.mode].find((one) => one.name === part("method").value);
    part("method-hint").textContent = `Score: ${method.meaning}.`;
    if (this.mode !== "segment") return;
    part("background").options[0].textContent = `The method's own: ${method.background === null ? "none" : `below ${method.background.toFixed(2)}`}`;
    if (part("background").value !== "threshold") part("threshold").value = method.background ?? 0.5;
    this.#showBackground();
  }

  #showBackground() {
    const { part } = this;
    part("threshold-row").hidden = part("background").value !== "threshold";
    part("background-row").hidden = part("background").value !== "word";
    this.#showThreshold();
  }

  #showThreshold() {
    this.part("threshold-value").textContent = Number(this.part("threshold").value).toFixed(2);
  }

  #listKnownWords() {
    const { objects } = this.knowledge;
    this.part("known").hidden = !objects.length;
    this.part("known-words").replaceChildren(...objects.map(([name]) => {
      const chip = make("button", { type: "button" }, name);
      chip.addEventListener("click", () => this.#toggleWord(name));
      return chip;
    }));
  }

  #toggleWord(name) {
    const labels = splitLabels(this.words);
    this.words = (labels.includes(name) ? labels.filter((label) => label !== name) : [...labels, name]).join(", ");
    this.onChange(0);
  }

  #markKnownWords() {
    const labels = splitLabels(this.words);
    for (const chip of this.part("known-words").children) chip.setAttribute("aria-pressed", labels.includes(chip.textContent));
  }
}
