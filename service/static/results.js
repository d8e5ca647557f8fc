// A photo that was found, as a card that opens it and marks it as more or less like what is sought.

import { showPicture } from "./api.js";
import { LESS, MORE, span } from "./marks.js";

const UNLIKELY = 0.02; // relevance below which a photo is rather not what was drawn; fewer than one in fifty is

export function isUnlikely(result) {
  return result.relevance != null && result.relevance < UNLIKELY;
}

export function nameOf(result) {
  return result.label ?? result.uri?.split("/").pop() ?? `photo ${result.id}`;
}

export function card(result, { show, mark }) {
  const name = nameOf(result);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "photo";
  const relevance = result.relevance == null ? "" : `, relevance ${Math.round(100 * result.relevance)}%`;
  button.title = `${name}, score ${result.score.toFixed(3)}${relevance}`;
  button.addEventListener("click", () => show(result));
  const image = new Image();
  image.alt = "";
  showPicture(image, result.thumbnail_url);
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(span("label", name), span("score", result.score.toFixed(2)));
  button.append(image, caption);
  const item = document.createElement("li");
  item.dataset.id = result.id;
  item.classList.toggle("unlikely", isUnlikely(result));
  item.append(button);
  for (const [kind, path] of [[MORE, "M12 6v12 M6 12h12"], [LESS, "M6 12h12"]]) {
    const marking = marker(name, kind, path);
    marking.addEventListener("click", () => mark(result, kind));
    item.append(marking);
  }
  return item;
}

function marker(name, kind, path) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `mark ${kind}`;
  button.title = kind === MORE ? "More like this" : "Less like this";
  button.setAttribute("aria-label", `${button.title}: ${name}`);
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  icon.append(line);
  button.append(icon);
  return button;
}
