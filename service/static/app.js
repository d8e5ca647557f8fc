import { request, showPicture } from "/static/api.js";
import { Detail } from "/static/detail.js";
import { Sketchpad } from "/static/sketchpad.js";
import { SpectrumPlot } from "/static/spectrum.js";

const BLANK = "the sketch is blank"; // how the service's answer begins if it sees no lines
const WAIT_WHILE_DRAWING = 150; // milliseconds between searches
const element = (id) => document.getElementById(id);
const pad = new Sketchpad(element("canvas"));
const plot = new SpectrumPlot(element("spectrum"), element("spectrum-caption"));
const detail = new Detail(element("detail"), { contributions, moreLike });
let gallery = null;
let like = null; // a photo to search by instead of the sketch
let pending = null;
let timer = null;
let stale = false; // another search is wanted as soon as the last one is not too recent

// ---- searching

function searchSoon() {
  if (timer) {
    stale = true;
    return;
  }
  search();
  timer = setTimeout(() => {
    timer = null;
    if (stale) {
      stale = false;
      searchSoon();
    }
  }, WAIT_WHILE_DRAWING);
}

async function search() {
  pending?.abort();
  pending = null;
  if (pad.isBlank && !like) return showNothing();
  const running = (pending = new AbortController());
  element("grid").classList.add("stale");
  const started = performance.now();
  try {
    const response = await query({}, running.signal);
    const answer = await response.json();
    if (running.signal.aborted) return;
    if (!response.ok) return answer.detail.startsWith(BLANK) ? showBlank() : showProblem(answer.detail);
    showResults(answer, performance.now() - started, response.headers.get("Server-Timing"));
  } catch (error) {
    if (error.name !== "AbortError") showProblem("The service does not answer. Is it still running?");
  }
}

// Asks for the photos of the sketch, or of the photo chosen.
async function query(more, signal) {
  const options = { limit: element("limit").value, ...more };
  if (gallery) options.dimensions = element("dimensions").value;
  if (element("unique").checked) options.unique = true;
  if (element("exact").checked) options.recall = 1;
  if (like) {
    const body = JSON.stringify({ ...options, photo_id: like.id });
    return request("/v1/search", { method: "POST", body, headers: { "Content-Type": "application/json" }, signal });
  }
  const body = await pad.toBlob();
  const headers = { "Content-Type": "image/png" };
  return request(`/v1/search?${new URLSearchParams(options)}`, { method: "POST", body, headers, signal });
}

async function contributions(result) {
  const response = await query({ with_contributions: true });
  const answer = await response.json();
  const found = answer.results?.find(({ id }) => id === result.id);
  return { contributions: found?.contributions ?? [], baseline: answer.baseline };
}

function moreLike(result) {
  like = result;
  search();
  scrollTo({ top: 0 });
}

function showResults(answer, milliseconds, timing) {
  element("empty").hidden = true;
  element("grid").classList.remove("stale");
  element("grid").replaceChildren(...answer.results.map(card));
  const about = like ? ` like ${nameOf(like)}` : "";
  say(`${answer.results.length} of ${answer.total.toLocaleString()} photos${about}, ${answer.dimensions} dimensions`);
  element("back").hidden = !like;
  const stages = (timing ?? "").split(", ").map((part) => part.replace(";dur=", " ").replace(/\.\d+$/, ""));
  element("latency").textContent = `${Math.round(milliseconds)} ms`;
  element("latency").title = stages.length > 1 ? `${stages.join(" ms, ")} ms` : "";
}

function nameOf(result) {
  return result.label ?? result.uri?.split("/").pop() ?? `photo ${result.id}`;
}

function card(result) {
  const name = nameOf(result);
  const button = document.createElement("button");
  button.type = "button";
  button.title = `${name}, score ${result.score.toFixed(3)}`;
  button.addEventListener("click", () => detail.show(result, name));
  const image = new Image();
  image.alt = "";
  showPicture(image, result.thumbnail_url);
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(span("label", name), span("score", result.score.toFixed(2)));
  button.append(image, caption);
  const item = document.createElement("li");
  item.dataset.id = result.id;
  item.append(button);
  return item;
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}

function showNothing() {
  element("back").hidden = true;
  element("grid").replaceChildren();
  element("grid").classList.remove("stale");
  element("empty").hidden = false;
  element("latency").textContent = "";
  say("");
}

function showBlank() {
  showNothing();
  say("No lines can be seen. Draw something, or use a picture with darker lines.");
}

function showProblem(detail) {
  element("grid").classList.remove("stale");
  say(detail, "problem");
}

function say(text, className = "") {
  element("status").textContent = text;
  element("status").className = className;
}

// ---- tools

function chooseTool(tool) {
  pad.tool = tool;
  for (const name of ["brush", "eraser"]) element(name).setAttribute("aria-pressed", String(name === tool));
}

function resizeBrush(change) {
  element("size").value = Number(element("size").value) + change;
  pad.size = Number(element("size").value);
}

async function useImage(file) {
  if (!file) return;
  try {
    pad.addImage(await createImageBitmap(file));
  } catch {
    showProblem("That file is not an image this browser can open.");
  }
}

pad.addEventListener("stroke", () => {
  like = null;
  element("hint").hidden = true;
  searchSoon();
});
pad.addEventListener("change", () => {
  like = null;
  element("hint").hidden = !pad.isEmpty;
  element("undo").disabled = !pad.canUndo;
  element("redo").disabled = !pad.canRedo;
  element("clear").disabled = pad.isEmpty;
  search();
});

const actions = {
  brush: () => chooseTool("brush"),
  eraser: () => chooseTool("eraser"),
  undo: () => pad.undo(),
  redo: () => pad.redo(),
  clear: () => pad.clear(),
  upload: () => element("file").click(),
  camera: () => element("photo").click(),
  help: () => element("shortcuts").showModal(),
};
for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
element("size").addEventListener("input", () => resizeBrush(0));
for (const id of ["file", "photo"]) {
  element(id).addEventListener("change", ({ target }) => {
    useImage(target.files[0]);
    target.value = "";
  });
}
addEventListener("paste", ({ clipboardData }) => useImage(clipboardData.files[0]));
const paper = document.querySelector(".paper");
paper.addEventListener("dragover", (event) => {
  event.preventDefault();
  paper.classList.add("dropping");
});
paper.addEventListener("dragleave", () => paper.classList.remove("dropping"));
paper.addEventListener("drop", (event) => {
  event.preventDefault();
  paper.classList.remove("dropping");
  useImage(event.dataTransfer.files[0]);
});

element("back").addEventListener("click", () => {
  like = null;
  search();
});

const keys = { b: "brush", e: "eraser", u: "upload", Delete: "clear", "?": "help" };
addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "z") {
    event.preventDefault();
    actions[event.shiftKey ? "redo" : "undo"]();
  } else if (!command && !event.altKey) {
    if (event.key === "[") resizeBrush(-2);
    else if (event.key === "]") resizeBrush(2);
    else actions[keys[event.key]]?.();
  }
});

// ---- sliders, theme, gallery

const narrow = matchMedia("(max-width: 820px)");
const foldOptions = () => (element("controls").open = !narrow.matches);
narrow.addEventListener("change", foldOptions);
foldOptions();

element("limit").addEventListener("input", () => {
  element("limit-value").textContent = element("limit").value;
  if (like || !pad.isEmpty) searchSoon();
});
element("dimensions").addEventListener("input", () => {
  showDimensions();
  if (like || !pad.isEmpty) searchSoon();
});
for (const id of ["unique", "exact"]) {
  element(id).addEventListener("change", () => {
    if (like || !pad.isEmpty) search();
  });
}

function showDimensions() {
  const dimensions = Number(element("dimensions").value);
  element("dimensions-value").textContent = `${dimensions} of ${gallery.dim}`;
  plot.highlight(dimensions);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
setTheme(localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light"));
dark.addEventListener("change", () => localStorage.getItem("theme") ?? setTheme(dark.matches ? "dark" : "light"));
element("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});

try {
  const response = await request("/v1/gallery");
  if (!response.ok) throw new Error((await response.json()).detail);
  gallery = await response.json();
  element("facts").textContent = `${gallery.photos.toLocaleString()} photos`;
  element("dimensions").max = gallery.dim;
  element("dimensions").value = gallery.default_dimensions;
  element("dimensions").disabled = false;
  element("exact-choice").hidden = gallery.recall >= 1;
  plot.show(gallery.spectrum);
  showDimensions();
} catch (error) {
  element("facts").textContent = "";
  showProblem(`The gallery cannot be reached: ${error.message}`);
}
