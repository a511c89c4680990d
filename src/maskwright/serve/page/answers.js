// What the server found, in one form for all three questions.

/**
 * @typedef {object} Found
 * @property {string} kind "segment", "regions" or "discover"
 * @property {{number: number, name: string, synonyms: string[], share: number, score: number | null, box: number[] | null,
 *   segmentation: object, colour: string}[]} labels
 * @property {number} background its share
 * @property {number} width
 * @property {number} height
 * @property {string[]} warnings
 * @property {string} note how the words came about, where that is worth telling
 */

/**
 * An answer of /segment, /regions or /discover.
 * @param {string} kind which of them
 * @param {object} answer
 * @returns {Found}
 */
export function found(kind, answer) {
  const { picture: { width, height }, record } = answer;
  const common = { kind, width, height, warnings: record.warnings ?? [] };
  if (kind !== "discover") return { ...common, labels: answer.labels, background: answer.background.share, note: "" };
  const { words, share, score, box, segmentation, colour, choice } = answer;
  const object = { number: 1, name: words.join(" + "), synonyms: [], share, score: share ? score : null, box, segmentation, colour };
  return { ...common, labels: [object], background: 1 - share, note: choice === "given" ? "" : choice };
}

/** What was found, as a sentence for those who do not see it. @param {Found} result */
export function describe({ labels, background }) {
  const seen = labels.filter((label) => label.share > 0).map((label) => `${label.name} ${percent(label.share)}`);
  if (!seen.length) return "Nothing was found.";
  const missing = labels.filter((label) => !label.share).map((label) => label.name);
  const rest = background > 0.0005 ? `; background ${percent(background)}` : "";
  return `Found: ${seen.join(", ")}${rest}.${missing.length ? ` Not found: ${missing.join(", ")}.` : ""}`;
}

/** "21 %"; what is there but less than a percent is "<1 %". */
export function percent(share) {
  if (share > 0 && share < 0.01) return "<1 %";
  return `${Math.round(100 * share)} %`;
}

/** A score with two digits, or a dash. */
export function digits(score) {
  return score === null || score === undefined ? "–" : score.toFixed(2);
}
