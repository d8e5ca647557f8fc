// A drawing surface with history. Coordinates are fractions of the side, so that strokes survive a resize.

const EXPORT_SIDE = 512;
const UNFINISHED_SIDE = 256; // while a stroke is drawn, when many sketches are sent
const PICTURE_SIDE = 768; // of a picture that nothing was drawn on, which may show a small drawing on paper

export class Sketchpad extends EventTarget {
  #canvas;
  #context;
  #marks = [];
  #undone = [];
  #current = null;
  tool = "brush";
  size = 8;
  revision = 0; // grows with every stroke and image, but not when one is taken back

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#extend(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#end(event));
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  get isEmpty() { return this.#marks.length === 0; }
  get isDrawing() { return this.#current !== null; }
  get isBlank() { return this.isEmpty && !this.#current; } // nothing drawn, nor being drawn
  get canUndo() { return this.#marks.length > 0; }
  get canRedo() { return this.#undone.length > 0; }

  undo() { this.#move(this.#marks, this.#undone); }
  redo() { this.#move(this.#undone, this.#marks); }

  clear() {
    if (this.isEmpty) return;
    this.#marks = [];
    this.#undone = [];
    this.#changed();
  }

  addImage(bitmap) {
    this.#push({ bitmap: withDarkStrokes(bitmap) });
  }

  // The sketch as a PNG blob, black on white whatever the page's theme.
  toBlob() {
    const [first, ...more] = this.#marks;
    if (first?.bitmap && !more.length && !this.#current) return pictureBlob(first.bitmap);
    const side = this.isDrawing ? UNFINISHED_SIDE : EXPORT_SIDE;
    const canvas = new OffscreenCanvas(side, side);
    this.#paint(canvas.getContext("2d", { alpha: false, willReadFrequently: true }), side);
    return canvas.convertToBlob({ type: "image/png" });
  }

  #move(from, to) {
    if (!from.length) return;
    to.push(from.pop());
    this.#changed();
  }

  #push(mark) {
    this.revision++;
    this.#marks.push(mark);
    this.#undone = [];
    this.#changed();
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    const pressure = event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1;
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height, pressure };
  }

  #begin(event) {
    if (event.button !== 0 || this.#current) return;
    event.preventDefault();
    this.#canvas.focus({ preventScroll: true, focusVisible: false });
    this.#canvas.setPointerCapture(event.pointerId);
    const erasing = this.tool === "eraser" || (event.pointerType === "pen" && event.buttons === 32);
    const width = (erasing ? 3 : 1) * this.size / EXPORT_SIDE;
    this.#current = { pointer: event.pointerId, erasing, width, points: [this.#point(event)] };
    this.#draw();
    this.dispatchEvent(new Event("begin"));
  }

  #extend(event) {
    if (this.#current?.pointer !== event.pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#current.points.push(this.#point(each));
    this.#draw();
    this.dispatchEvent(new Event("stroke"));
  }

  #end(event) {
    if (this.#current?.pointer !== event.pointerId) return;
    const mark = this.#current;
    this.#current = null;
    this.#push(mark);
  }

  #changed() {
    this.#draw();
    this.dispatchEvent(new Event("change"));
  }

  #resize() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    const height = Math.round(this.#canvas.clientHeight * devicePixelRatio);
    if (this.#canvas.width === side && this.#canvas.height === height) return;
    this.#canvas.width = side;
    this.#canvas.height = height;
    this.#draw();
  }

  #draw() {
    this.#paint(this.#context, this.#canvas.width);
  }

  #paint(context, side) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, side, side);
    for (const mark of this.#current ? [...this.#marks, this.#current] : this.#marks) {
      if (mark.bitmap) paintBitmap(context, mark.bitmap, side);
      else paintStroke(context, mark, side);
    }
  }
}

// A picture in its own shape: a margin would hide what surrounds the paper on it.
function pictureBlob(bitmap) {
  const scale = Math.min(1, PICTURE_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/png" });
}

// White strokes on a transparent ground would be lost on the canvas, so they become black.
function withDarkStrokes(bitmap) {
  const probe = new OffscreenCanvas(64, 64).getContext("2d");
  probe.drawImage(bitmap, 0, 0, 64, 64);
  const { data } = probe.getImageData(0, 0, 64, 64);
  let [clear, seen, white] = [0, 0, 0];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 24) clear++;
    else seen++, (white += Math.min(data[at], data[at + 1], data[at + 2]) > 231);
  }
  if (clear < 1024 || white < 0.98 * seen) return bitmap;
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

function paintBitmap(context, bitmap, side) {
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
}

function paintStroke(context, { points, width, erasing }, side) {
  context.strokeStyle = context.fillStyle = erasing ? "#fff" : "#000";
  context.lineCap = context.lineJoin = "round";
  let previous = points[0];
  context.beginPath();
  context.arc(previous.x * side, previous.y * side, (width * previous.pressure * side) / 2, 0, 2 * Math.PI);
  context.fill();
  for (const point of points.slice(1)) {
    context.lineWidth = (width * side * (previous.pressure + point.pressure)) / 2;
    context.beginPath();
    context.moveTo(previous.x * side, previous.y * side);
    context.lineTo(point.x * side, point.y * side);
    context.stroke();
    previous = point;
  }
}
