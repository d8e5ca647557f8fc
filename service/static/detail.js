// One result up close: the photo, why it was found, and what can be done with it.

import { request, showPicture } from "./api.js";

const [WIDTH, HEIGHT] = [300, 80];
const element = (id) => document.getElementById(`detail-${id}`);

export class Detail {
  #dialog;
  #result = null;
  #name = "";
  #contributions;

  constructor(dialog, { contributions, mark }) {
    this.#dialog = dialog;
    this.#contributions = contributions;
    for (const kind of ["more", "less"]) {
      element(kind).addEventListener("click", () => {
        dialog.close();
        mark(this.#result, kind);
      });
    }
    element("open").addEventListener("click", () => this.#open());
    element("copy").addEventListener("click", () => this.#copy());
    element("download").addEventListener("click", () => this.#download());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the backdrop
    });
  }

  async show(result, name) {
    this.#result = result;
    this.#name = name;
    element("name").textContent = name;
    element("facts").textContent = `score ${result.score.toFixed(3)}, ${result.width} × ${result.height} pixels`;
    element("caption").textContent = "";
    this.#tell(result.metadata ?? {});
    element("modes").replaceChildren();
    element("image").removeAttribute("src");
    element("image").alt = name;
    this.#dialog.showModal();
    showPicture(element("image"), result.image_url);
    const { contributions, baseline } = await this.#contributions(result);
    if (this.#result === result) this.#plot(contributions, baseline);
  }

  // Metadata may come from strangers: it is set as text, and only web addresses become links.
  #tell(metadata) {
    element("metadata").replaceChildren(...Object.entries(metadata).map(([name, value]) => {
      const line = document.createElement("div");
      const text = Array.isArray(value) ? value.join(", ") : String(value);
      line.append(`${name}: `, ...text.split(/(https?:\/\/[^\s,]+)/).map((part, odd) => {
        if (odd % 2 === 0) return part;
        return Object.assign(document.createElement("a"), { href: part, textContent: part, target: "_blank", rel: "noopener noreferrer" });
      }));
      return line;
    }));
  }

  #plot(contributions, baseline) {
    if (!contributions.length) return;
    const largest = Math.max(...contributions.map(Math.abs)) || 1;
    const above = Math.max(...contributions, 0) / largest;
    const below = Math.max(...contributions.map((value) => -value), 0) / largest;
    const unit = HEIGHT / (above + below || 1);
    element("modes").replaceChildren(...contributions.map((value, mode) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = (Math.abs(value) / largest) * unit;
      bar.setAttribute("x", (mode * WIDTH) / contributions.length);
      bar.setAttribute("width", (WIDTH / contributions.length) * 0.85);
      bar.setAttribute("y", value > 0 ? above * unit - height : above * unit);
      bar.setAttribute("height", Math.max(height, 0.4));
      bar.setAttribute("class", value > 0 ? "adds" : "takes");
      return bar;
    }));
    const score = contributions.reduce((sum, value) => sum + value, 0);
    const first = Math.max(1, Math.round(contributions.length / 8));
    const part = contributions.slice(0, first).reduce((sum, value) => sum + value, 0);
    element("caption").textContent =
      `What each of ${contributions.length} modes adds to the score; the first ${first} give ` +
      `${part.toFixed(2)} of ${score.toFixed(2)}. ${baseline.toFixed(2)} is the same for all photos`;
  }

  async #file(query = "") {
    const response = await request(this.#result.image_url + query);
    if (!response.ok) throw new Error((await response.json()).detail);
    return response.blob();
  }

  async #open() {
    if (!sessionStorage.getItem("key")) return open(this.#result.image_url, "_blank", "noopener");
    await this.#try(async () => open(URL.createObjectURL(await this.#file()), "_blank"));
  }

  async #copy() {
    await this.#try(async () => {
      const bitmap = await createImageBitmap(await this.#file());
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      const png = await canvas.convertToBlob({ type: "image/png" }); // the only kind a clipboard must take
      await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
      element("facts").textContent = "Copied to the clipboard";
    });
  }

  async #download() {
    await this.#try(async () => {
      const file = await this.#file("?original=true"); // also where the page shows it in another format
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      const suffix = file.type.startsWith("image/") ? `.${file.type.slice(6)}` : "";
      link.download = this.#name.includes(".") ? this.#name : this.#name + suffix;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }

  async #try(action) {
    try {
      await action();
    } catch (error) {
      element("facts").textContent = `That did not work: ${error.message}`;
    }
  }
}
