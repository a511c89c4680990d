// Wires the page: a picture is read once, and every change of the words or settings asks its reading anew.

import { describe, found } from "./answers.js";
import { Api, isAbort } from "./api.js";
import { showDownloads } from "./downloads.js";
import { Form } from "./form.js";
import { Heat } from "./heat.js";
import { splitTexts } from "./labels.js";
import { Legend } from "./legend.js";
import { labelMap } from "./masks.js";
import { Painter } from "./painter.js";
import { Reading } from "./reading.js";
import { Readout } from "./readout.js";
import { firstExample, listen } from "./sources.js";
import { Stage } from "./stage.js";
import { askToken, knownToken } from "./token.js";

const part = (id) => document.getElementById(id);
const parts = (...ids) => Object.fromEntries(ids.map((id) => [id, part(id)]));

class Page {
  constructor() {
    this.api = new Api({
      token: knownToken,
      askToken: (refused) => askToken(part, refused),
      onWait: (seconds) => this.say(`The server is busy. Asking again in ${seconds} s.`, "wait"),
    });
    this.painter = new Painter(part("layer"));
    this.stage = new Stage(parts("stage", "frame", "picture", "cross", "tag", "empty"), (point) => this.look(point));
    this.readout = new Readout({ place: part("readout"), keys: part("keys") });
    const on = { switched: () => this.paint(), heat: (name) => this.showHeat(name) };
    this.legend = new Legend({ table: part("legend"), rows: part("rows"), nothing: part("nothing") }, on);
    const [title, low, high] = ["scale-title", "scale-low", "scale-high"].map(part);
    this.heat = new Heat({ block: part("scale"), title, low, high, ramp: part("ramp") });
    Object.assign(this, { reading: null, coming: null, result: null, map: null, asked: null, timer: 0, pending: null, since: 0 });
    this.legend.clear("Nothing yet.");
  }

  /** Learns what the server can do, then waits for pictures. */
  async start() {
    try {
      this.facts = await this.api.json("v1/models");
    } catch (error) {
      this.fail(error);
      return;
    }
    part("model").textContent = `model: ${this.facts.loaded.name}`;
    this.form = new Form(part, this.facts, (wait) => this.askSoon(wait));
    part("opacity").addEventListener("input", () => this.paint());
    part("box").addEventListener("change", () => this.paint());
    listen(part, (file, words) => this.open(file, words), (error) => this.fail(error));
    firstExample(part, (labels) => this.form.knowledge.words && this.form.knowledge.knows(labels))?.click();
  }

  /** Has a picture read, then shows it; until then, or if that fails, everything stays. */
  async open(file, words) {
    const { upload_bytes: most } = this.facts.limits;
    if (file.size > most) {
      this.say(`That file has ${megabytes(file.size)} MB; this server takes ${megabytes(most)} MB.`, "error");
      return;
    }
    this.coming?.leave();
    const reading = this.coming = new Reading(this.api, file);
    this.say("Reading the picture …");
    try {
      const size = await reading.size();
      if (this.coming !== reading) return;
      this.coming = null;
      this.reading?.leave();
      this.reading = reading;
      this.forget("");
      this.stage.show(file, size);
      part("picture").alt = `The picture ${reading.name}`;
      if (words !== null) this.form.begin(words);
      this.askSoon(0);
    } catch (error) {
      if (this.coming !== reading) return;
      this.coming = null;
      this.fail(error);
    }
  }

  /** Asks the form's question after a while of quiet. */
  askSoon(wait) {
    this.since = performance.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), wait);
  }

  /** Asks the form's question; what is shown stays until the answer is there. */
  async ask() {
    this.pending?.abort();
    if (!this.reading || this.coming) return;
    const question = this.form.question(), { reading, since } = this, pending = new AbortController();
    if (!question) {
      this.forget("Type a word to look for.");
      return;
    }
    this.pending = pending;
    part("stage").setAttribute("aria-busy", "true");
    try {
      const answer = await (await reading.ask(question.kind, { json: question.body, signal: pending.signal })).json();
      if (pending.signal.aborted) return;
      this.asked = question;
      this.show(found(question.kind, answer));
      afterPainting(() => this.measure(since));
      if (this.heat.name) await this.showHeat(this.heat.name, pending.signal);
    } catch (error) {
      if (!isAbort(error) && this.reading === reading) this.fail(error);
    } finally {
      if (this.pending === pending) part("stage").removeAttribute("aria-busy");
    }
  }

  /** Shows a result. */
  show(result) {
    if (this.result?.kind !== result.kind) this.offerDownloads(result.kind);
    this.result = result;
    this.map = labelMap(result.labels, result.width, result.height);
    this.painter.setMap(this.map, result.width, result.height);
    if (result.kind !== "segment" || !result.labels.some(({ name }) => name === this.heat.name)) this.forgetHeat();
    this.legend.show(result, this.heat.name);
    this.warn(result.warnings);
    this.paint();
    this.say(describe(result) + (result.note ? ` Words: ${result.note}.` : ""));
    this.look(this.stage.point);
  }

  /** Paints masks, or the heat map, as the switches are. */
  paint() {
    const opacity = part("opacity").value / 100;
    part("opacity-value").textContent = `${part("opacity").value} %`;
    if (!this.result) return;
    const { labels, kind, width, height } = this.result;
    const [x, y, wide, high] = labels[0]?.box ?? [];
    const box = kind === "discover" && part("box").checked && labels[0].box ? [x / width, y / height, wide / width, high / height] : null;
    const dim = kind !== "regions" && !this.legend.hidden.size;
    this.painter.paint({ labels, hidden: this.legend.hidden, opacity, dim, box });
    part("layer").setAttribute("aria-label", this.heat.name ? `Heat map of ${this.heat.name}` : describe(this.result));
  }

  /** Shows the heat map of a label; `null` goes back to masks. */
  async showHeat(name, signal) {
    const { reading, asked, result } = this;
    if (!name) {
      this.forgetHeat();
      this.legend.show(result, null);
      this.paint();
      return;
    }
    try {
      const { blob, low, high } = await this.heat.fetch(reading, this.label(name), asked.body, "map", signal);
      const bitmap = await createImageBitmap(blob);
      if (this.result !== result) return;
      this.heat.show(name, bitmap, low, high);
      this.painter.setHeat(bitmap);
      this.legend.show(result, name);
      this.paint();
    } catch (error) {
      this.fail(error);
    }
  }

  forgetHeat() {
    this.heat.show(null);
    this.painter.setHeat(null);
  }

  /** A label as it was asked for, with its synonyms. */
  label(name) {
    const { synonyms } = this.result.labels.find((label) => label.name === name);
    return splitTexts([name, ...synonyms].join("|")).join("|");
  }

  /** Tells what is at a point. */
  look(point) {
    if (!this.result || !this.asked) {
      this.readout.show(null);
      return;
    }
    const { reading, asked, result, map } = this;
    const number = point ? map[point.y * result.width + point.x] : 0;
    const ask = (signal) => reading.ask("point", { json: { ...asked.body, ...point }, signal }).then((response) => response.json());
    const label = result.labels.find((one) => one.number === number);
    this.stage.label(point ? label?.name ?? "background" : "");
    this.legend.mark(number);
    this.readout.show(point, result.labels, number, asked.kind === "segment" ? ask : null);
  }

  /** Shows the buttons that belong to a kind of question. */
  offerDownloads(kind) {
    showDownloads(part("downloads"), this.facts.formats[kind], (form) => this.download(form), (error) => this.fail(error));
  }

  /** A result in another form, from the question that is shown. */
  async download(form) {
    const { reading, asked } = this;
    if (form === "overlay" && this.heat.name) {
      const { blob } = await this.heat.fetch(reading, this.label(this.heat.name), asked.body, "overlay");
      return { blob, name: `${reading.name}.${this.heat.name}` };
    }
    const box = asked.kind === "discover" ? { box: part("box").checked } : {};
    const response = await reading.ask(asked.kind, { json: { ...asked.body, ...box, format: form } });
    return { blob: await response.blob(), name: reading.name };
  }

  /** Takes away what was found. */
  forget(text) {
    Object.assign(this, { result: null, map: null, asked: null });
    this.forgetHeat();
    this.painter.clear();
    this.legend.clear("Nothing yet.");
    part("downloads").replaceChildren();
    part("layer").setAttribute("aria-label", "No masks yet");
    this.stage.label("");
    this.look(null);
    this.warn([]);
    this.say(text);
  }

  /** One line about how things are. */
  say(text, kind = "") {
    part("status").textContent = text;
    part("status").dataset.kind = kind;
  }

  /** What the server thinks of the question. */
  warn(warnings) {
    part("warning").hidden = !warnings.length;
    part("warning").textContent = warnings.join(". ") + (warnings.length ? "." : "");
    if (warnings.length && !part("known").hidden) part("warning").textContent += " See the words that it knows below.";
  }

  fail(error) {
    if (isAbort(error)) return;
    this.say(error.message, "error");
    if (error.name !== "Refusal") throw error; // a mistake of this page: let the console have it
  }

  /** From the last change of the question to its answer on the screen. */
  measure(since) {
    const { duration } = performance.measure("maskwright: question to masks", { start: since });
    part("took").textContent = `${(duration / 1000).toFixed(2)} s`;
  }
}

function afterPainting(then) {
  requestAnimationFrame(() => setTimeout(then));
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}

new Page().start();
