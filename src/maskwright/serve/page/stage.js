// The picture that one points at: where the crosshair is, by mouse, finger or keyboard.

const STEP = 100; // the longer side is so many steps of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Stage {
  /**
   * @param {Record<string, HTMLElement>} parts stage, frame, picture, cross, tag, empty
   * @param {(point: {x: number, y: number} | null) => void} onPoint told whenever the crosshair moves or goes
   */
  constructor(parts, onPoint) {
    Object.assign(this, parts, { onPoint, width: 0, height: 0, point: null, kept: null, address: null });
    this.frame.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.move(this.#place(event)));
    this.frame.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.move(this.kept));
    this.frame.addEventListener("click", (event) => this.keep(this.#place(event)));
    this.stage.addEventListener("keydown", (event) => this.#press(event));
  }

  /**
   * Shows another picture.
   * @param {Blob} file
   * @param {number} width in pixels, as the server sees it
   * @param {number} height
   */
  show(file, { width, height }) {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = URL.createObjectURL(file);
    this.picture.src = this.address;
    Object.assign(this, { width, height });
    this.frame.style.setProperty("--ratio", width / height);
    this.frame.hidden = false;
    this.empty.hidden = true;
    this.keep(null);
  }

  /** Puts the crosshair at a pixel, or takes it away. */
  move(point) {
    if (point?.x === this.point?.x && point?.y === this.point?.y) return; // browsers repeat moves when the page changes under the mouse
    this.point = point;
    this.cross.hidden = !point;
    if (point) {
      this.cross.style.setProperty("--x", (point.x + 0.5) / this.width);
      this.cross.style.setProperty("--y", (point.y + 0.5) / this.height);
      this.cross.classList.toggle("right", point.x > this.width / 2);
      this.cross.classList.toggle("low", point.y > this.height / 2);
    }
    this.onPoint(point);
  }

  /** Lets the crosshair stay at a pixel when the mouse leaves. */
  keep(point) {
    this.kept = point;
    this.move(point);
  }

  /** What stands beside the crosshair. */
  label(text) {
    this.tag.textContent = text;
    this.tag.hidden = !text;
  }

  #place(event) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    return { x: within((event.clientX - left) / width, this.width), y: within((event.clientY - top) / height, this.height) };
  }

  #press(event) {
    if (!this.width || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      const [right, down] = ARROWS[event.key];
      const step = Math.max(1, Math.round(Math.max(this.width, this.height) / STEP)) * (event.shiftKey ? 10 : 1);
      const from = this.point ?? { x: this.width >> 1, y: this.height >> 1 };
      const to = (place, way, side) => Math.min(Math.max(place + way * step, 0), side - 1);
      this.move(this.point ? { x: to(from.x, right, this.width), y: to(from.y, down, this.height) } : from);
    } else if (event.key === "Enter" && this.point) {
      this.keep(this.point);
    } else if (event.key === "Escape") {
      this.keep(null);
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** A share of a side, 0..1, to a pixel of it. */
function within(share, side) {
  return Math.min(Math.max(Math.floor(share * side), 0), side - 1);
}
