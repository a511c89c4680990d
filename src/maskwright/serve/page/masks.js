// Masks as the server sends them (COCO's compressed run lengths) and as pixels.

/**
 * Run lengths of a mask, column by column, beginning with zeros (pycocotools, rleFrString).
 * @param {string} counts
 * @returns {number[]}
 */
export function decodeRuns(counts) {
  const runs = [];
  for (let place = 0; place < counts.length;) {
    let value = 0, shift = 0, code;
    do {
      code = counts.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * The label number of every pixel, 0 where there is none.
 * @param {{number: number, segmentation: {counts: string}}[]} labels whose masks do not overlap
 * @param {number} width
 * @param {number} height
 * @returns {Uint16Array} row by row
 */
export function labelMap(labels, width, height) {
  const map = new Uint16Array(width * height);
  for (const { number, segmentation } of labels) {
    let start = 0;
    decodeRuns(segmentation.counts).forEach((length, turn) => {
      const end = start + length;
      if (turn % 2) {
        for (let place = start; place < end; place++) map[(place % height) * width + Math.floor(place / height)] = number;
      }
      start = end;
    });
  }
  return map;
}
