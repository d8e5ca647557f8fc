// Photos marked as more or less like what is sought, and a picture of one's own, each shown as a chip that removes it.

import { showPicture } from "./api.js";

export const MORE = "more";
export const LESS = "less";
const OWN = "own"; // takes the place of an id
const SIGNS = { [MORE]: "+", [LESS]: "−" };

export class Marks extends EventTarget {
  #list;
  #marks = new Map(); // by the photo's id

  constructor(list) {
    super();
    this.#list = list;
  }

  get isEmpty() { return this.#marks.size === 0; }
  get positive() { return this.#ids(MORE); }
  get negative() { return this.#ids(LESS); }
  get picture() { return this.#marks.get(OWN)?.blob; } // of one's own
  get canFind() { return this.positive.length > 0 || this.picture !== undefined; }

  set(result, name, kind) {
    this.#marks.set(result.id, { result, name, kind });
    this.#changed();
  }

  setPicture(blob) {
    const result = { id: OWN, thumbnail_url: URL.createObjectURL(blob) };
    this.#marks.set(OWN, { result, name: "your picture", kind: MORE, blob });
    this.#changed();
  }

  clear() {
    this.#marks.clear();
    this.#changed();
  }

  #ids(kind) {
    return [...this.#marks.values()].filter((mark) => mark.kind === kind && !mark.blob).map((mark) => mark.result.id);
  }

  #remove(id) {
    const place = [...this.#marks.keys()].indexOf(id);
    this.#marks.delete(id);
    this.#changed();
    const chips = this.#list.querySelectorAll("button");
    (chips[Math.min(place, chips.length - 1)] ?? document.getElementById("canvas")).focus();
  }

  #changed() {
    this.#list.replaceChildren(...[...this.#marks.values()].map((mark) => this.#chip(mark)));
    this.#list.parentElement.hidden = this.isEmpty;
    this.dispatchEvent(new Event("change"));
  }

  #chip({ result, name, kind, blob }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = kind;
    button.title = "Remove";
    button.setAttribute("aria-label", `Remove: ${kind} like ${name}`);
    button.addEventListener("click", () => this.#remove(result.id));
    const image = new Image();
    image.alt = "";
    if (blob) image.src = result.thumbnail_url;
    else showPicture(image, result.thumbnail_url);
    button.append(span("sign", SIGNS[kind]), image, span("name", name), span("cross", "×"));
    const item = document.createElement("li");
    item.dataset.id = result.id;
    item.append(button);
    return item;
  }
}

export function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}
