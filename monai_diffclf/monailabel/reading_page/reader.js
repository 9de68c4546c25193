// The page: the next image, what the model says of it, the reader's answer, and so on.

import { describeCounterfactual, describeProgress, make, shortly, showEvidence, showLegend } from "./evidence.js";
import {
  Refusal, getNext, getPixels, getPrediction, getState, makeCounterfactual, sendAnswer, setToken,
} from "./server.js";
import { Viewer } from "./viewer.js";

const FIRST_STRATEGY = "most_uncertain";
const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("canvas"), $("other-canvas"), followViewer);
const answered = new Set(); // of this page: an answer may still be on its way
let state = null;
let current = null; // the image that is shown
let upcoming = null; // promise of the next one
let painting = null; // what stops the counterfactual
let slice = 0;

const model = () => $("model").value;
const reader = () => $("reader").value.trim() || "reader";

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function askNext(strategy) {
  const taken = [...answered].slice(-150);
  if (current && current.id) taken.push(current.id);
  return getNext({ reader: reader(), strategy, exclude: taken });
}

/** Ask for the next image, unless it has been asked for, and for its pixels. */
function fetchItem(asked = askNext($("strategy").value)) {
  const item = { model: model(), stop: new AbortController(), planes: new Map() };
  item.ready = asked.then(async (found) => {
    item.id = found.id;
    if (!item.id) return item;
    const query = { image: item.id, model: item.model };
    item.pixels = await getPixels({ ...query, of: "image" }, item.stop.signal).catch((error) => {
      item.pixelError = error;
      return null;
    });
    return item;
  });
  item.ready.catch(() => {});
  return item;
}

/** What the model says of an image; asked for once, when its pixels are there: the image comes first. */
function predict(item) {
  if (!item.prediction) {
    item.prediction = getPrediction({ image: item.id, model: item.model }, item.stop.signal);
    item.prediction.catch(() => {}); // is told when the image is shown
  }
  return item.prediction;
}

async function showNext(asked) {
  stopPainting();
  const item = upcoming && upcoming.model === model() ? upcoming : fetchItem(asked);
  upcoming = null;
  current = null;
  $("wait").hidden = false;
  allow(false);
  try {
    await item.ready;
  } catch (error) {
    if (error.name !== "AbortError") report(error);
    $("wait").hidden = true;
    return;
  }
  $("wait").hidden = true;
  current = item;
  item.since = performance.now();
  $("image-id").textContent = item.id || "";
  viewer.clear();
  if (!item.id) {
    $("evidence").replaceChildren(make("p", "", "No image is left for you."));
    $("canvas").setAttribute("aria-label", "No image");
    return;
  }
  showImage(item);
  allow(true);
  await Promise.all([showPrediction(item), prefetch(item)]);
}

function showImage(item) {
  say(item.pixelError ? `${item.id}: ${item.pixelError.message}` : "");
  $("canvas").setAttribute("aria-label", `Image ${item.id}`);
  const slices = item.pixels ? item.pixels.slices : 1;
  $("slices").hidden = slices < 2;
  slice = Math.floor(slices / 2);
  $("slice").max = slices - 1;
  $("slice").value = slice;
  $("slice-text").textContent = `${slice + 1} of ${slices}`;
  viewer.show({ image: item.pixels, map: null, counterfactual: null });
  viewer.reset();
  document.body.dataset.image = item.id; // for whoever watches the page
}

async function showPrediction(item) {
  $("evidence").replaceChildren(make("p", "note", "The model is looking …"));
  $("legend").replaceChildren();
  $("short").textContent = "";
  $("counterfactual").disabled = true;
  markModelsClass(null);
  try {
    const said = await predict(item);
    if (current !== item) return;
    item.said = said;
    showEvidence($("evidence"), said);
    showLegend($("legend"), said);
    $("short").textContent = shortly(said);
    $("counterfactual").disabled = !said.counterfactual;
    $("counterfactual-text").textContent = said.counterfactual ? "" : "This model paints no counterfactuals.";
    markModelsClass($("hide").checked ? null : said.label);
    await showPlanes(item);
  } catch (error) {
    if (error.name === "AbortError" || current !== item) return;
    $("evidence").replaceChildren(make("p", "warn", `No answer of the model: ${error.message}`));
  }
}

/** Image, map and counterfactual of the present slice; those that were seen are kept. */
async function showPlanes(item) {
  const wanted = slice;
  const query = { image: item.id, model: item.model, slice: item.pixels && item.pixels.slices > 1 ? wanted : null };
  const get = (of) => {
    const key = `${of} ${wanted}`;
    if (!item.planes.has(key)) item.planes.set(key, getPixels({ ...query, of }, item.stop.signal));
    return item.planes.get(key);
  };
  const [image, map, counterfactual] = await Promise.all([
    item.pixels && (item.pixels.slices > 1 ? get("image") : item.pixels), item.said && get("map"), item.painted && get("counterfactual"),
  ]);
  if (current === item && slice === wanted) viewer.show({ image, map: map || null, counterfactual: counterfactual || null });
}

/** The next image, while the reader looks at this one. */
async function prefetch(item) {
  await predict(item).catch(() => {});
  if (current !== item || upcoming) return;
  upcoming = fetchItem();
  try {
    const next = await upcoming.ready;
    if (next.id) await predict(next);
    document.body.dataset.next = next.id || "none";
  } catch { /* is told when it is shown */ }
}

function answer(verdict, label) {
  if (!current || !current.id) return;
  const item = current;
  answered.add(item.id);
  const body = {
    reader: reader(), image: item.id, verdict, label, model: item.model,
    shown: Boolean(item.said) && !$("hide").checked, seconds: (performance.now() - item.since) / 1000,
  };
  item.stop.abort();
  // The next image need not wait until this answer is stored.
  sendAnswer(body).then((stored) => {
    showProgress(stored.progress);
    $("last").textContent = `${item.id}: ${label || verdict}${compare(item, label)}`;
  }).catch((error) => {
    answered.delete(item.id);
    say(`Not stored, the answer to ${item.id}: ${error.message}`);
  });
  document.body.dataset.next = "";
  showNext();
}

function compare(item, label) {
  if (!label || !item.said) return "";
  return item.said.label === label ? ", as the model" : `; the model: ${item.said.label}`;
}

async function showCounterfactual() {
  if (!current || !current.said || !current.said.counterfactual || painting) return;
  const item = current;
  if (item.painted) return toggleOther($("other").hidden);
  painting = new AbortController();
  $("counterfactual-text").textContent = "Painting … you can go on reading.";
  try {
    const made = await makeCounterfactual({ image: item.id, model: item.model }, painting.signal);
    if (current !== item) return;
    item.painted = made;
    $("other-text").textContent = describeCounterfactual(made);
    $("other-canvas").setAttribute("aria-label", `The image as ${made.target}`);
    toggleOther(true);
    await showPlanes(item);
    $("counterfactual-text").textContent = "";
  } catch (error) {
    if (current === item && error.name !== "AbortError") $("counterfactual-text").textContent = error.message;
  } finally {
    painting = null;
  }
}

function toggleOther(shown) {
  $("other").hidden = !shown;
  viewer.draw();
}

function stopPainting() {
  if (painting) painting.abort();
  painting = null;
  $("other").hidden = true;
  $("counterfactual-text").textContent = "";
}

function followViewer({ level, width }) {
  $("level").value = Math.round(1000 * level);
  $("window").value = Math.round(1000 * width);
}

function allow(on) {
  for (const button of document.querySelectorAll("#answers button")) button.disabled = !on;
}

function markModelsClass(label) {
  for (const button of $("classes").children) button.classList.toggle("model", button.dataset.label === label);
}

function showProgress(progress) {
  $("progress").textContent = describeProgress(progress);
  $("bar").max = Math.max(1, progress.labelled + progress.left);
  $("bar").value = progress.labelled;
}

function showClasses() {
  const buttons = state.models[model()].classes.map((name, index) => {
    const button = make("button", "", name);
    if (index < 9) button.append(make("kbd", "", String(index + 1)));
    Object.assign(button, { type: "button" });
    button.dataset.label = name;
    button.addEventListener("click", () => answer("label", name));
    return button;
  });
  $("classes").replaceChildren(...buttons);
}

function hideEvidence() {
  const hidden = $("hide").checked;
  for (const id of ["evidence", "legend", "counterfactual", "short"]) $(id).hidden = hidden;
  viewer.showMap = $("map").checked && !hidden;
  markModelsClass(hidden || !current || !current.said ? null : current.said.label);
  if (hidden) $("other").hidden = true;
  viewer.draw();
}

function report(error) {
  if (error instanceof Refusal && error.status === 401) $("login").showModal();
  else say(error.message);
}

function moveSlice(by) {
  if ($("slices").hidden) return;
  $("slice").value = Number($("slice").value) + by;
  $("slice").dispatchEvent(new Event("input"));
}

const KEYS = {
  u: () => answer("unsure"), s: () => answer("skip"), b: () => answer("bad image"),
  m: () => $("map").click(), h: () => $("hide").click(), c: showCounterfactual, 0: () => viewer.reset(),
  "+": () => viewer.zoomBy(1.25), "-": () => viewer.zoomBy(0.8),
  PageUp: () => moveSlice(1), PageDown: () => moveSlice(-1),
};
const MOVES = { ArrowLeft: [0.05, 0], ArrowRight: [-0.05, 0], ArrowUp: [0, 0.05], ArrowDown: [0, -0.05] };

function onKey(event) {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || typing || $("login").open) return;
  if (/^[1-9]$/.test(event.key) && $("classes").children[event.key - 1]) {
    event.preventDefault();
    if (current && current.id) $("classes").children[event.key - 1].click();
  } else if (event.target === $("canvas") && MOVES[event.key]) {
    event.preventDefault();
    viewer.move(...MOVES[event.key]);
  } else if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
}

function restart() {
  if (upcoming) upcoming.stop.abort();
  upcoming = null;
  if (current) current.stop.abort();
  current = null;
  viewer.clear();
  $("evidence").replaceChildren();
  showClasses();
  return showNext();
}

function listen() {
  document.addEventListener("keydown", onKey);
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  $("reader").addEventListener("change", () => localStorage.setItem("reader", reader()));
  $("model").addEventListener("change", restart);
  $("strategy").addEventListener("change", restart);
  $("map").addEventListener("change", hideEvidence);
  $("hide").addEventListener("change", hideEvidence);
  $("fade").addEventListener("input", () => { viewer.strength = $("fade").value / 100; viewer.draw(); });
  $("reset").addEventListener("click", () => viewer.reset());
  $("zoom-in").addEventListener("click", () => viewer.zoomBy(1.25));
  $("zoom-out").addEventListener("click", () => viewer.zoomBy(0.8));
  for (const id of ["level", "window"]) {
    $(id).addEventListener("input", () => viewer.setWindow($("level").value / 1000, $("window").value / 1000));
  }
  $("slice").addEventListener("input", () => {
    slice = Number($("slice").value);
    $("slice-text").textContent = `${slice + 1} of ${Number($("slice").max) + 1}`;
    if (current) showPlanes(current).catch(report);
  });
  $("counterfactual").addEventListener("click", showCounterfactual);
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => answer(button.dataset.verdict));
  }
  $("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken($("token").value.trim());
    $("login").close();
    start();
  });
}

async function start() {
  const asked = askNext(FIRST_STRATEGY); // not to wait for the state first
  asked.catch(() => {}); // the state is refused as well
  try {
    state = await getState();
  } catch (error) {
    report(error);
    return;
  }
  say(state.models_left_out.length ? `Not loaded: ${state.models_left_out.join(", ")}; see the server's log.` : "");
  $("model").replaceChildren(...Object.keys(state.models).map((name) => new Option(name, name)));
  const strategies = state.strategies.map((name) => new Option(name.replaceAll("_", " "), name, false, name === FIRST_STRATEGY));
  $("strategy").replaceChildren(...strategies);
  showProgress(state.progress);
  showClasses();
  await showNext(asked);
}

$("reader").value = localStorage.getItem("reader") || `reader-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
localStorage.setItem("reader", reader());
$("more").open = matchMedia("(min-width: 48.01rem)").matches;
listen();
start();
