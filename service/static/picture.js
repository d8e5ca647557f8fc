// Search by a picture of one's own: it is chosen, dropped or pasted in a dialog, and a part of it can be marked there.

const SIDE = 1024; // pixels of the longer side that are sent; the encoder sees fewer
const PREVIEW = 640;
const LEAST = 0.03; // of a side; a shorter drag is a click, which takes the mark away
const element = (id) => document.getElementById(`own-${id}`);

export class OwnPicture extends EventTarget {
  #dialog = document.getElementById("own");
  #canvas = element("picture");
  #bitmap = null;
  #start = null;
  #part = null; // left, top, width and height, as fractions of the picture

  constructor() {
    super();
    element("choose").addEventListener("click", () => element("file").click());
    element("file").addEventListener("change", ({ target }) => {
      this.use(target.files[0]);
      target.value = "";
    });
    element("whole").addEventListener("click", () => this.#mark(null));
    element("search").addEventListener("click", () => this.#search());
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      this.#start = this.#point(event);
    });
    this.#canvas.addEventListener("pointermove", (event) => this.#start && this.#drag(this.#point(event)));
    for (const name of ["pointerup", "pointercancel"]) this.#canvas.addEventListener(name, () => (this.#start = null));
  }

  get isOpen() { return this.#dialog.open; }

  open() {
    this.#show(null);
    this.#dialog.showModal();
  }

  // Takes an image file, and opens the dialog if it is not open.
  async use(file) {
    if (!file) return;
    if (!this.isOpen) this.open();
    try {
      this.#show(await createImageBitmap(file));
      element("search").focus();
    } catch {
      element("hint").textContent = "That file is not an image this browser can open.";
    }
  }

  #show(bitmap) {
    this.#bitmap = bitmap;
    element("hint").textContent = bitmap
      ? "Drag over a part to search by that part alone."
      : "Choose a picture, or paste or drop one here.";
    this.#canvas.hidden = element("search").hidden = !bitmap;
    if (bitmap) [this.#canvas.width, this.#canvas.height] = scaled(bitmap.width, bitmap.height, PREVIEW);
    this.#mark(null);
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  #drag([x, y]) {
    const [left, top] = [Math.min(x, this.#start[0]), Math.min(y, this.#start[1])];
    const [width, height] = [Math.abs(x - this.#start[0]), Math.abs(y - this.#start[1])];
    this.#mark(Math.min(width, height) < LEAST ? null : [left, top, width, height]);
  }

  #mark(part) {
    this.#part = part;
    element("whole").hidden = !part;
    if (!this.#bitmap) return;
    const { width, height } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.drawImage(this.#bitmap, 0, 0, width, height);
    if (!part) return;
    const box = [part[0] * width, part[1] * height, part[2] * width, part[3] * height];
    context.fillStyle = "rgb(0 0 0 / 55%)";
    const shade = new Path2D();
    shade.rect(0, 0, width, height);
    shade.rect(...box);
    context.fill(shade, "evenodd");
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect(...box);
  }

  async #search() {
    const { width, height } = this.#bitmap;
    const [left, top, across, down] = this.#part ?? [0, 0, 1, 1];
    const canvas = new OffscreenCanvas(...scaled(across * width, down * height, SIDE));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const part = [left * width, top * height, across * width, down * height];
    context.drawImage(this.#bitmap, ...part, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
    this.#dialog.close();
    this.dispatchEvent(new CustomEvent("search", { detail: blob }));
  }
}

// Width and height in whole pixels, reduced until the longer one is at most so many.
function scaled(width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}
