import { request } from "./api.js";
import { Swatches } from "./colors.js";
import { Detail } from "./detail.js";
import { LESS, MORE, Marks } from "./marks.js";
import { Pace } from "./pace.js";
import { OwnPicture } from "./picture.js";
import { Results, isUnlikely, nameOf } from "./results.js";
import { Sketchpad } from "./sketchpad.js";
import { SpectrumPlot } from "./spectrum.js";
import "./theme.js";

const BLANK = "the sketch is blank"; // how the service's answer begins if it sees no lines
const PATIENCE = 60; // seconds after which a service that is busy is asked again at the latest
const element = (id) => document.getElementById(id);
const pad = new Sketchpad(element("canvas"));
const plot = new SpectrumPlot(element("spectrum"), element("spectrum-caption"));
const marks = new Marks(element("marks"));
const swatches = new Swatches(element("colors"));
const picture = new OwnPicture();
const detail = new Detail(element("detail"), { contributions, mark });
const results = new Results(element("grid"), { show, mark });
const pace = new Pace(search);
const still = matchMedia("(prefers-reduced-motion: reduce)");
let gallery = null;
let focus = null; // button of a result to go on with, by the place of the result and the kind of mark
let known = 0; // revision of the last complete sketch that was searched by

// ---- searching

function changed() {
  if (hasQuery()) return pace.now();
  pace.stop();
  showNothing();
}

function changing() {
  if (hasQuery()) pace.soon();
}

// Searches once; resolves to the seconds after which to try again if the service is busy.
async function search(signal) {
  const unfinished = pad.isDrawing;
  const { revision } = pad;
  element("grid").classList.add("stale");
  const started = performance.now();
  try {
    const response = await query(unfinished || revision === known ? { learn: false } : {}, signal);
    const answer = await response.json();
    if (signal.aborted) return;
    const busy = [429, 503].includes(response.status) && Number(response.headers.get("Retry-After"));
    if (busy) return wait(Math.min(busy, PATIENCE), answer.detail, unfinished);
    const isBlank = !response.ok && answer.detail.startsWith(BLANK);
    if (isBlank && unfinished) return element("grid").classList.remove("stale"); // the stroke has hardly begun
    if (!response.ok) return isBlank ? showBlank() : showProblem(answer.detail);
    if (!unfinished) known = revision;
    showResults(answer, performance.now() - started, response.headers.get("Server-Timing"), unfinished);
  } catch (error) {
    if (error.name !== "AbortError") showProblem("The service does not answer. Is it still running?");
  }
}

function wait(seconds, detail, unfinished) {
  if (!unfinished) say(`The search goes on in ${seconds} s: ${detail}`);
  return seconds;
}

// Asks for the photos of the sketch, of a picture of one's own and of the photos marked.
async function query(more, signal) {
  const options = { limit: element("limit").value, ...more };
  if (gallery) options.dimensions = element("dimensions").value;
  if (element("unique").checked) options.unique = true;
  if (element("exact").checked) options.recall = 1;
  if (marks.positive.length) options.positive = marks.positive;
  if (marks.negative.length) options.negative = marks.negative;
  if (swatches.chosen.length) options.filter = JSON.stringify({ color: swatches.chosen });
  const sending = { method: "POST", priority: "high", signal };
  if (marks.picture) {
    const body = new FormData();
    for (const [name, value] of Object.entries(options)) body.append(name, value);
    if (!pad.isBlank) body.append("file", await pad.toBlob(), "sketch.png");
    body.append("photo", marks.picture, "picture.jpg");
    return request("v1/search", { ...sending, body });
  }
  if (pad.isBlank) {
    const body = JSON.stringify(options);
    return request("v1/search", { ...sending, body, headers: { "Content-Type": "application/json" } });
  }
  const body = await pad.toBlob();
  const headers = { "Content-Type": "image/png" };
  return request(`v1/search?${new URLSearchParams(options)}`, { ...sending, body, headers });
}

async function contributions(result) {
  const response = await query({ with_contributions: true });
  const answer = await response.json();
  const found = answer.results?.find(({ id }) => id === result.id);
  return { contributions: found?.contributions ?? [], baseline: answer.baseline };
}

function mark(result, kind) {
  const place = [...element("grid").children].findIndex((item) => Number(item.dataset.id) === result.id);
  focus = { place, kind };
  marks.set(result, nameOf(result), kind);
}

// Results are left out once they are marked, so that the keyboard goes on with the one that takes the place.
function restoreFocus() {
  if (!focus) return;
  const items = element("grid").children;
  const item = items[Math.min(Math.max(focus.place, 0), items.length - 1)];
  (item?.querySelector(`.${focus.kind}`) ?? element("marks").querySelector("button"))?.focus({ preventScroll: true });
  focus = null;
}

function showResults(answer, milliseconds, timing, unfinished) {
  element("empty").hidden = true;
  element("grid").classList.remove("stale");
  results.show(answer.results);
  restoreFocus();
  const counts = [[marks.positive, MORE], [marks.negative, LESS]].filter(([ids]) => ids.length);
  const own = marks.picture ? ", like your picture" : "";
  const about = own + counts.map(([ids, kind]) => `, ${kind} like ${ids.length}`).join("");
  const isVain = !unfinished && answer.results.length && answer.results.every(isUnlikely);
  const missing = answer.missing_shards.length;
  const silent = `${missing} of the gallery's ${gallery?.shards ?? ""} parts did not answer`.replace("  ", " ");
  const lacking = missing ? `Some photos are missing, because ${silent}. ` : "";
  const fit = isVain ? "; probably none shows what you drew" : "";
  const count = `${answer.results.length} of ${answer.total.toLocaleString()} photos`;
  say(`${lacking}${count}${about}, ${answer.dimensions} dimensions${fit}`, missing ? "problem" : "");
  const stages = (timing ?? "").split(", ").map((part) => part.replace(";dur=", " ").replace(/\.\d+$/, ""));
  element("latency").textContent = `${Math.round(milliseconds)} ms`;
  element("latency").title = stages.length > 1 ? `${stages.join(" ms, ")} ms` : "";
}

function show(result) {
  detail.show(result, nameOf(result));
}

function showNothing() {
  results.show([]);
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
  if (element("status").textContent !== text) element("status").textContent = text; // else it would be read out again
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

pad.addEventListener("begin", () => (element("hint").hidden = true));
pad.addEventListener("stroke", () => {
  if (!still.matches) changing(); // else the photos stand still until the stroke is drawn
});
pad.addEventListener("change", () => {
  element("hint").hidden = !pad.isEmpty;
  element("undo").disabled = !pad.canUndo;
  element("redo").disabled = !pad.canRedo;
  element("clear").disabled = pad.isEmpty;
  changed();
});

const actions = {
  brush: () => chooseTool("brush"),
  eraser: () => chooseTool("eraser"),
  undo: () => pad.undo(),
  redo: () => pad.redo(),
  clear: () => pad.clear(),
  upload: () => element("file").click(),
  camera: () => element("photo").click(),
  like: () => picture.open(),
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
addEventListener("paste", ({ clipboardData: { files } }) => (picture.isOpen ? picture.use(files[0]) : useImage(files[0])));
takeDropped(document.querySelector(".paper"), useImage);
takeDropped(document.querySelector(".results"), (file) => picture.use(file));
takeDropped(element("own"), (file) => picture.use(file));

function takeDropped(place, use) {
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("dropping");
  });
  place.addEventListener("dragleave", () => place.classList.remove("dropping"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("dropping");
    use(event.dataTransfer.files[0]);
  });
}

picture.addEventListener("search", ({ detail: blob }) => marks.setPicture(blob));
swatches.addEventListener("change", changed);
marks.addEventListener("change", changed);
element("unmark").addEventListener("click", () => {
  marks.clear();
  element("canvas").focus({ preventScroll: true });
});

const keys = { b: "brush", e: "eraser", u: "upload", p: "like", Delete: "clear", "?": "help" };
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

// ---- sliders, gallery

const narrow = matchMedia("(max-width: 820px)");
const foldOptions = () => (element("controls").open = !narrow.matches);
narrow.addEventListener("change", foldOptions);
foldOptions();

element("limit").addEventListener("input", () => {
  element("limit-value").textContent = element("limit").value;
  changing();
});
element("dimensions").addEventListener("input", () => {
  showDimensions();
  changing();
});
for (const id of ["unique", "exact"]) element(id).addEventListener("change", changed);

function hasQuery() {
  return !pad.isBlank || marks.canFind;
}

function showDimensions() {
  const dimensions = Number(element("dimensions").value);
  element("dimensions-value").textContent = `${dimensions} of ${gallery.dim}`;
  plot.highlight(dimensions);
}

try {
  const response = await request("v1/gallery");
  if (!response.ok) throw new Error((await response.json()).detail);
  gallery = await response.json();
  element("facts").textContent = `${gallery.photos.toLocaleString()} photos`;
  element("dimensions").max = gallery.dim;
  element("dimensions").value = gallery.default_dimensions;
  element("dimensions").disabled = false;
  element("exact-choice").hidden = gallery.recall >= 1;
  swatches.show(gallery.colors);
  plot.show(gallery.spectrum, gallery.sketches);
  showDimensions();
} catch (error) {
  element("facts").textContent = "";
  showProblem(`The gallery cannot be reached: ${error.message}`);
}
