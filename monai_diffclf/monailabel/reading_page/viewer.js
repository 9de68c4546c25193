// An image with window, level, zoom and a map over it, drawn on one or two canvases that move together.

const LARGEST = 65535;

export class Viewer {
  /** @param {HTMLCanvasElement} canvas the image; @param {HTMLCanvasElement} other the counterfactual beside it. */
  constructor(canvas, other, onChange) {
    this.canvas = canvas;
    this.other = other;
    this.onChange = onChange || (() => {});
    this.showMap = true;
    this.strength = 0.5;
    this.pointers = new Map();
    this.planes = {};
    this.reset();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Forget zoom, window and level: the image's own window, or all of its range. */
  reset() {
    const [black, white] = this.planes.image ? this.planes.image.window : [0, 1];
    this.level = (black + white) / 2;
    this.width = white - black;
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.paintAll();
  }

  /** Show planes: image, map, counterfactual; null takes one away. */
  show(planes) {
    Object.assign(this.planes, planes);
    this.paintAll();
  }

  clear() {
    this.planes = {};
    this.pictures = {};
    this.draw();
  }

  paintAll() {
    const { image, map, counterfactual } = this.planes;
    this.pictures = {
      image: image && this.grey(image),
      counterfactual: counterfactual && this.grey(counterfactual),
      map: map && colours(map),
    };
    this.draw();
    this.onChange(this);
  }

  /** Grey or colour values through window and level, as a picture. */
  grey({ values, height, width, channels }) {
    const table = new Uint8ClampedArray(LARGEST + 1);
    const low = this.level - this.width / 2;
    for (let value = 0; value <= LARGEST; value += 1) table[value] = (255 * (value / LARGEST - low)) / this.width;
    const data = new ImageData(width, height);
    const out = data.data;
    for (let i = 0, o = 0; o < out.length; i += channels, o += 4) {
      out[o] = table[values[i]];
      out[o + 1] = table[values[channels > 2 ? i + 1 : i]];
      out[o + 2] = table[values[channels > 2 ? i + 2 : i]];
      out[o + 3] = 255;
    }
    return picture(data);
  }

  draw() {
    this.paint(this.canvas, this.pictures.image, this.showMap ? this.pictures.map : null);
    if (this.other.offsetParent) this.paint(this.other, this.pictures.counterfactual, null);
  }

  paint(canvas, image, map) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!image) return;
    // Pixels have the shape that they have in millimetres.
    const [tall, wide] = this.planes.image.spacing.map((side) => side / Math.min(...this.planes.image.spacing));
    const [high, broad] = [image.height * tall, image.width * wide];
    const scale = Math.min(width / broad, height / high) * this.zoom;
    context.translate(width / 2 + this.x * width, height / 2 + this.y * height);
    context.scale(scale, scale);
    // Large pixels are pixels, not a smooth surface that was never measured.
    context.imageSmoothingEnabled = scale < 4;
    context.drawImage(image, -broad / 2, -high / 2, broad, high);
    if (!map) return;
    context.globalAlpha = this.strength;
    context.imageSmoothingEnabled = true;
    context.drawImage(map, -broad / 2, -high / 2, broad, high);
    context.globalAlpha = 1;
  }

  setWindow(level, width) {
    this.level = clamp(level, 0, 1);
    this.width = clamp(width, 0.005, 1);
    this.paintAll();
  }

  /** Zoom by a factor about a point of the canvas, in shares of its size from the middle. */
  zoomBy(factor, x = 0, y = 0) {
    const next = clamp(this.zoom * factor, 1, 32);
    const change = next / this.zoom;
    this.x = x - (x - this.x) * change;
    this.y = y - (y - this.y) * change;
    this.zoom = next;
    this.move(0, 0);
  }

  move(x, y) {
    const most = (this.zoom - 1) / 2 + 0.25 * (this.zoom > 1);
    this.x = clamp(this.x + x, -most, most);
    this.y = clamp(this.y + y, -most, most);
    this.draw();
  }

  listen() {
    for (const canvas of [this.canvas, this.other]) {
      canvas.addEventListener("pointerdown", (event) => this.down(event));
      canvas.addEventListener("pointermove", (event) => this.drag(event));
      for (const end of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
      }
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 400), ...this.place(event));
      }, { passive: false });
      canvas.addEventListener("dblclick", () => this.reset());
    }
  }

  /** Where an event is, in shares of the canvas from its middle. */
  place(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
  }

  down(event) {
    event.currentTarget.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.place(event);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (this.pointers.size === 2) this.pinch(event.pointerId, before, now);
    else if (event.shiftKey || event.buttons === 4) this.move(dx, dy);
    else this.setWindow(this.level + dy * this.width, this.width * Math.exp(2 * dx));
    this.pointers.set(event.pointerId, now);
  }

  pinch(id, before, now) {
    const [, still] = [...this.pointers].find(([other]) => other !== id);
    const apart = (place) => Math.hypot(place[0] - still[0], place[1] - still[1]) || 1e-3;
    this.zoomBy(apart(now) / apart(before), (now[0] + still[0]) / 2, (now[1] + still[1]) / 2);
    this.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  }
}

/** A map as a picture: red where the class explains a pixel better, blue where its rival does, clear where neither. */
function colours({ values, height, width }) {
  const data = new ImageData(width, height);
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] / 32767;
    data.data.set(value > 0 ? [255, 90, 60] : [60, 130, 255], 4 * i);
    data.data[4 * i + 3] = 255 * Math.min(1, Math.abs(value));
  }
  return picture(data);
}

function picture(data) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: data.width, height: data.height });
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
