import { Sketchpad } from "/static/sketchpad.js";
import { SpectrumPlot } from "/static/spectrum.js";

const WAIT_WHILE_DRAWING = 150; // milliseconds between searches
const element = (id) => document.getElementById(id);
const pad = new Sketchpad(element("canvas"));
const plot = new SpectrumPlot(element("spectrum"), element("spectrum-caption"));
let gallery = null;
let pending = null;
let timer = null;
let stale = false;

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
  if (pad.isBlank) return showNothing();
  const request = (pending = new AbortController());
  const options = new URLSearchParams({ limit: element("limit").value });
  if (gallery) options.set("dimensions", element("dimensions").value);
  element("grid").classList.add("stale");
  const started = performance.now();
  try {
    const body = await pad.toBlob();
    const response = await fetch(`/v1/search?${options}`, {
      method: "POST", body, headers: { "Content-Type": "image/png" }, signal: request.signal,
    });
    const answer = await response.json();
    if (request.signal.aborted) return;
    if (!response.ok) return showProblem(answer.detail);
    showResults(answer, performance.now() - started, response.headers.get("Server-Timing"));
  } catch (error) {
    if (error.name !== "AbortError") showProblem("The service does not answer. Is it still running?");
  }
}

function showResults(answer, milliseconds, timing) {
  element("empty").hidden = true;
  element("grid").classList.remove("stale");
  element("grid").replaceChildren(...answer.results.map(card));
  say(`${answer.results.length} of ${answer.total.toLocaleString()} photos, ${answer.dimensions} dimensions`);
  const stages = (timing ?? "").split(", ").map((part) => part.replace(";dur=", " ").replace(/\.\d+$/, ""));
  element("latency").textContent = `${Math.round(milliseconds)} ms`;
  element("latency").title = stages.length > 1 ? `${stages.join(" ms, ")} ms` : "";
}

function card(result) {
  const name = result.label ?? result.uri?.split("/").pop() ?? `photo ${result.id}`;
  const link = document.createElement("a");
  link.href = result.image_url;
  link.target = "_blank";
  link.rel = "noopener";
  link.title = `${name}, score ${result.score.toFixed(3)}`;
  const image = new Image();
  image.src = result.thumbnail_url;
  image.alt = name;
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(span("label", name), span("score", result.score.toFixed(2)));
  link.append(image, caption);
  const item = document.createElement("li");
  item.dataset.id = result.id;
  item.append(link);
  return item;
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}

function showNothing() {
  element("grid").replaceChildren();
  element("grid").classList.remove("stale");
  element("empty").hidden = false;
  element("latency").textContent = "";
  say("");
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
  element("hint").hidden = true;
  searchSoon();
});
pad.addEventListener("change", () => {
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
};
for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
element("size").addEventListener("input", () => resizeBrush(0));
element("file").addEventListener("change", ({ target }) => {
  useImage(target.files[0]);
  target.value = "";
});
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

const keys = { b: "brush", e: "eraser", u: "upload", Delete: "clear" };
addEventListener("keydown", (event) => {
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

element("limit").addEventListener("input", () => {
  element("limit-value").textContent = element("limit").value;
  if (!pad.isEmpty) searchSoon();
});
element("dimensions").addEventListener("input", () => {
  showDimensions();
  if (!pad.isEmpty) searchSoon();
});

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
  const response = await fetch("/v1/gallery");
  if (!response.ok) throw new Error((await response.json()).detail);
  gallery = await response.json();
  element("facts").textContent = `${gallery.photos.toLocaleString()} photos`;
  element("dimensions").max = gallery.dim;
  element("dimensions").value = gallery.default_dimensions;
  element("dimensions").disabled = false;
  plot.show(gallery.spectrum);
  showDimensions();
} catch (error) {
  element("facts").textContent = "";
  showProblem(`The gallery cannot be reached: ${error.message}`);
}
