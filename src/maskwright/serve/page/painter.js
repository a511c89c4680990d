// Paints label maps and heat maps over the picture.

const SMALLEST = 640, LARGEST = 1600; // pixels of the longer side: small pictures get smooth outlines, large ones stay quick
const DIM = 0.35; // how dark background becomes at full opacity
const THIN = 400; // the longer side is so many times the width of an outline

export class Painter {
  /** @param {HTMLCanvasElement} canvas over the picture, stretched to its size */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.clear();
  }

  /** Takes everything away. */
  clear() {
    this.numbers = this.heat = null;
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /**
   * The masks to paint from now on.
   * @param {Uint16Array} map label numbers, row by row
   * @param {number} width of the map
   * @param {number} height of the map
   */
  setMap(map, width, height) {
    const scale = Math.min(Math.max(Math.max(width, height), SMALLEST), LARGEST) / Math.max(width, height);
    const columns = Math.max(1, Math.round(width * scale)), rows = Math.max(1, Math.round(height * scale));
    Object.assign(this.canvas, { width: columns, height: rows });
    const sources = Int32Array.from({ length: columns }, (_, column) => Math.floor(((column + 0.5) * width) / columns));
    this.numbers = new Uint16Array(columns * rows);
    for (let row = 0, place = 0; row < rows; row++) {
      const start = Math.floor(((row + 0.5) * height) / rows) * width;
      for (let column = 0; column < columns; column++) this.numbers[place++] = map[start + sources[column]];
    }
    this.outlines = findOutlines(this.numbers, columns, rows);
  }

  /** The heat map to paint in place of masks, until `null` is set. @param {ImageBitmap | null} bitmap */
  setHeat(bitmap) {
    this.heat = bitmap;
  }

  /**
   * Paints what was set.
   * @param {object} how
   * @param {{number: number, colour: string}[]} how.labels their colours
   * @param {Set<number>} how.hidden numbers that are switched off
   * @param {number} how.opacity 0..1
   * @param {boolean} how.dim whether background is darkened
   * @param {number[] | null} how.box [x, y, width, height] as shares of the picture, drawn where there is one
   */
  paint({ labels, hidden, opacity, dim, box }) {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.heat) {
      context.globalAlpha = opacity;
      context.drawImage(this.heat, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    } else if (this.numbers) {
      context.putImageData(this.#coloured(labels, hidden, opacity, dim), 0, 0);
      if (box) this.#drawBox(box);
    }
  }

  #coloured(labels, hidden, opacity, dim) {
    const image = this.context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const fills = new Uint32Array(1 + Math.max(0, ...labels.map((label) => label.number)));
    const lines = new Uint32Array(fills.length);
    if (dim) fills[0] = packed([0, 0, 0], DIM * opacity);
    for (const { number, colour } of labels) {
      if (hidden.has(number)) continue;
      fills[number] = packed(channels(colour), opacity);
      lines[number] = packed([255, 255, 255], Math.min(1, 1.6 * opacity));
    }
    for (let place = 0; place < pixels.length; place++) {
      pixels[place] = (this.outlines[place] && lines[this.outlines[place]]) || fills[this.numbers[place]];
    }
    return image;
  }

  #drawBox([x, y, width, height]) {
    const { context, canvas } = this;
    const line = Math.max(2, Math.max(canvas.width, canvas.height) / 250);
    for (const [style, wide] of [["rgb(0 0 0 / 60%)", 2 * line], ["#fff", line]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: wide });
      context.strokeRect(x * canvas.width, y * canvas.height, width * canvas.width, height * canvas.height);
    }
  }
}

/**
 * Where two labels meet: the number of a label that an outline there belongs to, else 0. An outline is seen while its label is.
 * @returns {Uint16Array}
 */
function findOutlines(numbers, columns, rows) {
  const wide = Math.max(1, Math.round(Math.max(columns, rows) / THIN));
  const found = new Uint16Array(numbers.length);
  for (let row = 0, place = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, place++) {
      const here = numbers[place];
      const left = column < wide ? here : numbers[place - wide];
      const above = row < wide ? here : numbers[place - wide * columns];
      if (left !== here) found[place] = here || left;
      else if (above !== here) found[place] = here || above;
    }
  }
  return found;
}

/** "#e69f00" to [230, 159, 0]. */
export function channels(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}

/** A pixel of ImageData as one number, in this machine's order of bytes. */
function packed([red, green, blue], opacity) {
  return new Uint32Array(new Uint8ClampedArray([red, green, blue, 255 * opacity]).buffer)[0];
}
