// The text of labels: taken apart as the server does it, and completed by the words that a model knows.

const COMMAS = /[,，،、\n\r]/; // as maskwright.vocabulary has it
const MOST = 8; // suggestions at a time

/**
 * Labels of a text that may still be typed at: what is empty so far is left out.
 * @param {string} text "dog, cat|kitten"
 * @returns {string[]}
 */
export function splitLabels(text) {
  return text.split(COMMAS).map((label) => splitTexts(label).join("|")).filter(Boolean);
}

/** A label's name and synonyms. */
export function splitTexts(label) {
  return label.split("|").map((part) => part.trim()).filter(Boolean);
}

/** The words of a closed model; an open one knows all. */
export class Knowledge {
  /** @param {{words: string[] | null, objects: string[] | null}} loaded the model, from /v1/models */
  constructor({ words, objects }) {
    this.words = words && new Set(words);
    this.objects = (objects ?? []).map(splitTexts);
    const texts = this.objects.flat();
    const parts = new Set(texts.flatMap((text) => text.split(" ")));
    this.texts = [...texts, ...(words ?? []).filter((word) => !parts.has(word))];
  }

  /** Whether the model knows every word of some labels. @param {string[]} labels */
  knows(labels) {
    return !this.words || labels.flatMap((label) => label.toLowerCase().split(/[|\s]+/)).every((word) => !word || this.words.has(word));
  }

  /**
   * Texts that complete the label at the end of a text, each with what stands before it.
   * @param {string} text
   * @returns {string[]}
   */
  complete(text) {
    const [, before, begun] = text.match(/^(.*[,，،、|]\s*|\s*)([^,，،、|]*)$/s);
    if (!begun) return [];
    const taken = new Set(splitLabels(before).flatMap(splitTexts).map((one) => one.toLowerCase()));
    const start = begun.toLowerCase();
    const begins = (text) => text.split(" ").some((_, at, words) => words.slice(at).join(" ").startsWith(start));
    const fitting = this.texts.filter((one) => one !== start && !taken.has(one) && begins(one));
    return fitting.slice(0, MOST).map((one) => before + one);
  }
}

/** The options of a datalist. */
export function offer(datalist, values) {
  datalist.replaceChildren(...values.map((value) => Object.assign(document.createElement("option"), { value })));
}
