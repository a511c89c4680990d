// The heat map of a word, and the scale of its colours.

import { digits } from "./answers.js";

const SAMPLES = 64; // pixels along each side of the small copy that the scale is taken from

export class Heat {
  /** @param {{block: HTMLElement, title: HTMLElement, low: HTMLElement, high: HTMLElement, ramp: HTMLCanvasElement}} parts of the scale */
  constructor(parts) {
    Object.assign(this, parts, { name: null });
  }

  /**
   * Fetches the heat map of a label.
   * @param {import("./reading.js").Reading} reading
   * @param {string} label with its synonyms, as it was asked for
   * @param {{method: string, prompting: string, refine: string}} body of the question that the masks answer
   * @param {string} form "map" or "overlay"
   * @param {AbortSignal} [signal]
   * @returns {Promise<{blob: Blob, low: number, high: number}>}
   */
  async fetch(reading, label, { method, prompting, refine }, form, signal) {
    const response = await reading.ask(`heat?${new URLSearchParams({ label, method, prompting, refine, format: form })}`, { signal });
    const [low, high] = ["Low", "High"].map((end) => Number(response.headers.get(`X-Score-${end}`)));
    return { blob: await response.blob(), low, high };
  }

  /** Shows the scale of a heat map; `null` takes it away. */
  show(name, bitmap, low, high) {
    this.name = name;
    this.block.hidden = !name;
    if (!name) return;
    this.title.textContent = `Heat map of ${name}`;
    this.low.textContent = digits(low);
    this.high.textContent = digits(high);
    this.#drawRamp(bitmap);
  }

  /** The server's colours get lighter all the way up, so that the map's own pixels, sorted, are the scale. */
  #drawRamp(bitmap) {
    const small = new OffscreenCanvas(SAMPLES, SAMPLES).getContext("2d");
    small.imageSmoothingEnabled = false; // no colours that are not in the map
    small.drawImage(bitmap, 0, 0, SAMPLES, SAMPLES);
    const { data } = small.getImageData(0, 0, SAMPLES, SAMPLES);
    const pixels = Array.from({ length: SAMPLES * SAMPLES }, (_, place) => data.subarray(4 * place, 4 * place + 3));
    const light = ([red, green, blue]) => 0.3 * red + 0.59 * green + 0.11 * blue;
    pixels.sort((one, other) => light(one) - light(other));
    const dark = light(pixels[0]), bright = light(pixels.at(-1)), context = this.ramp.getContext("2d");
    for (let column = 0, place = 0; column < this.ramp.width; column++) {
      const wanted = dark + ((bright - dark) * column) / (this.ramp.width - 1);
      while (place < pixels.length - 1 && light(pixels[place]) < wanted) place++;
      context.fillStyle = `rgb(${pixels[place].join(" ")})`;
      context.fillRect(column, 0, 1, 1);
    }
  }
}
