// The photos that were found. A photo that is found again keeps its card, with the picture that is already there.

import { showPicture } from "./api.js";
import { LESS, MORE, span } from "./marks.js";

const UNLIKELY = 0.02; // relevance below which a photo is rather not what was drawn; fewer than one in fifty is
const KEPT = 300; // cards

export function isUnlikely(result) {
  return result.relevance != null && result.relevance < UNLIKELY;
}

export function nameOf(result) {
  return result.label ?? result.uri?.split("/").pop() ?? `photo ${result.id}`;
}

export class Results {
  #list;
  #actions;
  #cards = new Map(); // by the photo's id, the last one used at the end

  // `actions.show` gets a result, `actions.mark` a result and the kind of mark.
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
  }

  show(results) {
    const cards = results.map((result) => this.#card(result));
    const focused = document.activeElement;
    arrange(this.#list, cards.map((card) => card.item));
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    this.#forget(new Set(results.map(({ id }) => id)));
  }

  #card(result) {
    const card = this.#cards.get(result.id) ?? new Card(this.#actions);
    this.#cards.delete(result.id);
    this.#cards.set(result.id, card);
    card.update(result);
    return card;
  }

  // Cards that are not shown wait to be shown again, unless their picture was not there yet.
  #forget(shown) {
    let excess = this.#cards.size - KEPT;
    for (const [id, card] of this.#cards) {
      if (shown.has(id) || (excess-- <= 0 && card.isComplete)) continue;
      card.cancel();
      this.#cards.delete(id);
    }
  }
}

// Gives a list these items in this order, and touches none that is in its place already.
function arrange(list, items) {
  const wanted = new Set(items);
  for (const item of [...list.children]) if (!wanted.has(item)) item.remove();
  items.forEach((item, place) => {
    const there = list.children[place] ?? null;
    if (there === item) return;
    if (item.isConnected && list.moveBefore) list.moveBefore(item, there);
    else list.insertBefore(item, there);
  });
}

class Card {
  item = document.createElement("li");
  #result = null;
  #button = document.createElement("button");
  #image = new Image();
  #name = span("label", "");
  #score = span("score", "");
  #markers = [];

  constructor({ show, mark }) {
    this.#button.type = "button";
    this.#button.className = "photo";
    this.#button.addEventListener("click", () => show(this.#result));
    this.#image.alt = "";
    const caption = span("caption", "");
    caption.append(this.#name, this.#score);
    this.#button.append(this.#image, caption);
    for (const [kind, path] of [[MORE, "M12 6v12 M6 12h12"], [LESS, "M6 12h12"]]) {
      const marking = marker(kind, path);
      marking.addEventListener("click", () => mark(this.#result, kind));
      this.#markers.push(marking);
    }
    this.item.append(this.#button, ...this.#markers);
  }

  get isComplete() { return this.#image.complete && this.#image.naturalWidth > 0; }

  update(result) {
    if (this.#result === null) showPicture(this.#image, result.thumbnail_url);
    this.#result = result;
    const name = nameOf(result);
    const relevance = result.relevance == null ? "" : `, relevance ${Math.round(100 * result.relevance)}%`;
    this.#button.title = `${name}, score ${result.score.toFixed(3)}${relevance}`;
    this.#name.textContent = name;
    this.#score.textContent = result.score.toFixed(2);
    for (const marking of this.#markers) marking.setAttribute("aria-label", `${marking.title}: ${name}`);
    this.item.dataset.id = result.id;
    this.item.classList.toggle("unlikely", isUnlikely(result));
  }

  // Nobody waits for the picture any more.
  cancel() {
    this.#image.removeAttribute("src");
  }
}

function marker(kind, path) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `mark ${kind}`;
  button.title = kind === MORE ? "More like this" : "Less like this";
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  icon.append(line);
  button.append(icon);
  return button;
}
