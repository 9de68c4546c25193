// The overview, and which case is open.

const about = JSON.parse(document.getElementById("about").textContent);
const places = new Map(about.cases.map((row, i) => [row.key, i]));
const overview = document.getElementById("overview");
const article = document.getElementById("case");
const has = (test) => about.cases.some(test);

const columns = [
  ["key", "Image"],
  has((row) => row.label !== null) ? ["label", "Truth"] : null,
  ["predicted", "Called"],
  ["probability", "Probability"],
  ["uncertainty", "Uncertainty"],
  has((row) => row.set !== null) ? ["set", "Set"] : null,
  has((row) => row.ood !== null) ? ["ood", "Unlike, p"] : null,
  has((row) => row.warned) ? ["warned", "Warning"] : null,
  has((row) => row.label !== null) ? ["verdict", "Verdict"] : null,
].filter(Boolean);

// Shown at once; the others follow as soon as these can be read.
const FIRST_ROWS = 40;

const state = {
  column: null, descending: false, wish: {}, scroll: 0, last: null,
  measure: about.uncertainties.find((measure) => measure.name === about.orderBy),
};

// The cases of the overview in its order, which previous and next follow.
function listed() {
  const rows = filterRows(about.cases, state.wish);
  return state.column ? sortRows(rows, state.column, state.descending, state.measure) : rows;
}

function cell(column, row) {
  if (column === "key") {
    return make("th", { scope: "row" }, make("a", { href: hashOfKey(row.key) },
      make("img", { src: row.thumbnail, alt: "", loading: "lazy" }), make("span", {}, row.key)));
  }
  const wrong = isWrong(row);
  const shown = {
    label: () => (row.label === null ? "–" : className(about, row.label)),
    predicted: () => className(about, row.predicted),
    probability: () => percent(row.probability, 1),
    uncertainty: () => number(shownValue(row, state.measure)),
    set: () => (row.set === null ? "–" : row.set.map((k) => about.classes[k]).join(", ") || "none"),
    ood: () => number(row.ood),
    warned: () => (row.warned ? make("strong", {}, "see case") : "–"),
    verdict: () => (wrong === null ? "–" : make("span", { class: wrong ? "wrong" : "right" }, wrong ? "wrong" : "right")),
  };
  return make("td", { class: isNumber(column) ? "number" : null }, shown[column]());
}

const isNumber = (column) => ["probability", "uncertainty", "ood"].includes(column);

// Whoever sorts by uncertainty wants the least sure first, by p the least alike, by name or class the first.
function sortBy(column) {
  const downFirst = ["uncertainty", "verdict", "set", "probability", "warned"].includes(column);
  state.descending = state.column === column ? !state.descending : downFirst;
  state.column = column;
  fillTable();
}

function fillTable() {
  const rows = listed();
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.column : null;
  const head = columns.map(([column, title]) => make("th", {
    scope: "col", class: isNumber(column) ? "number" : null,
    "aria-sort": state.column === column ? (state.descending ? "descending" : "ascending") : null,
  }, make("button", { type: "button", "data-column": column, onclick: () => sortBy(column) }, title)));
  const lines = (from, to) => rows.slice(from, to).map((row) => make("tr", {}, ...columns.map(([column]) => cell(column, row))));
  const table = document.getElementById("table");
  const body = make("tbody", {}, ...lines(0, FIRST_ROWS));
  table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), body);
  if (rows.length > FIRST_ROWS) setTimeout(() => { if (body.isConnected) body.append(...lines(FIRST_ROWS)); });
  const what = about.findings.length ? "cases" : "images";
  document.getElementById("count").textContent = `${rows.length} of ${about.cases.length} ${what}`;
  if (focused) table.querySelector(`[data-column="${focused}"]`).focus();
}

function choice(words, options, changed, value = "") {
  const select = make("select", {}, ...options.map(([key, title]) => make("option", { value: key }, title)));
  select.value = value;
  select.addEventListener("change", () => { changed(select.value); fillTable(); });
  return make("label", {}, words + " ", select);
}

function filters() {
  const wish = (name) => (value) => { state.wish[name] = value; };
  const classes = [["", "all"], ...about.classes.map((name, k) => [String(k), name])];
  const shown = new Set(columns.map(([column]) => column));
  const search = make("input", { type: "search" });
  search.addEventListener("input", () => { state.wish.text = search.value; fillTable(); });
  const measures = about.uncertainties.map((measure) => [measure.name, measure.title]);
  const setMeasure = (name) => { state.measure = about.uncertainties.find((measure) => measure.name === name); };
  return make("div", { class: "controls", role: "search" },
    make("label", {}, "Name ", search),
    about.findings.length ? choice("Finding", [["", "all"], ...about.findings.map((name) => [name, name])], wish("finding")) : null,
    choice("Called", classes, wish("predicted")),
    shown.has("label") ? choice("Truth", classes, wish("label")) : null,
    shown.has("verdict") ? choice("Verdict", [["", "all"], ["right", "right"], ["wrong", "wrong"]], wish("verdict")) : null,
    shown.has("set") ? choice("Set", [["", "all"], ["one", "one class"], ["other", "several or none"]], wish("set")) : null,
    shown.has("ood") ? choice("Unlike", [["", "all"], ["yes", "p < 0.01"]], wish("ood")) : null,
    choice("Uncertainty", measures, setMeasure, state.measure.name));
}

// What was called of a finding of an image, leading to its case.
function answer(row) {
  const wrong = isWrong(row);
  return make("a", { href: hashOfKey(row.key) }, make("span", {}, className(about, row.predicted),
    ` ${percent(row.probability, 1)}`, wrong ? make("span", { class: "wrong" }, " wrong") : null));
}

// An image a row, a finding a column.
function buildImages() {
  if (!about.findings.length) return;
  const images = byImage(about.cases);
  const heads = ["Image", ...about.findings].map((name) => make("th", { scope: "col" }, name));
  const line = ([image, rows]) => make("tr", {},
    make("th", { scope: "row" }, make("span", { class: "of" },
      make("img", { src: rows.values().next().value.thumbnail, alt: "", loading: "lazy" }), make("span", {}, image))),
    ...about.findings.map((name) => make("td", {}, rows.has(name) ? answer(rows.get(name)) : "–")));
  document.getElementById("images").append(
    make("h2", {}, "Finding by finding"),
    make("p", {}, "An image a row, a finding a column: what was called, with its probability. Open a case by it."),
    make("div", { class: "wide" }, make("table", { class: "cases" }, make("thead", {}, make("tr", {}, ...heads)),
      make("tbody", {}, ...Array.from(images, line)))));
}

function buildOverview() {
  buildImages();
  document.getElementById("list").append(
    make("h2", {}, "Cases"),
    make("p", {}, "Open a case by its name. In a case, the arrow keys lead to the one before and after in this order, Escape leads back."),
    filters(),
    make("p", { class: "muted", id: "count", role: "status" }),
    make("div", { class: "wide" }, make("table", { id: "table", class: "cases" })));
  fillTable();
}

// The case before and after, in the order of the overview; of all cases where the open one is filtered out.
function around(row) {
  let rows = listed();
  if (!rows.includes(row)) rows = about.cases;
  const place = rows.indexOf(row);
  return { before: rows[place - 1], after: rows[place + 1], place, count: rows.length };
}

function navigation(row) {
  const { before, after, place, count } = around(row);
  const step = (other, words, key) => (other
    ? make("a", { href: hashOfKey(other.key), "aria-keyshortcuts": key }, words) : make("span", { class: "muted" }, words));
  return make("nav", { class: "steps", "aria-label": "Cases" },
    make("a", { href: "#", "aria-keyshortcuts": "Escape" }, "All cases"),
    make("span", { class: "muted" }, `${place + 1} of ${count}`),
    step(before, "← Previous", "ArrowLeft"), step(after, "Next →", "ArrowRight"));
}

// What was called of the other findings of the same image.
function otherFindings(row) {
  const rows = about.cases.filter((other) => other.image === row.image && other !== row);
  if (!row.finding || !rows.length) return [];
  const parts = rows.flatMap((other, i) => [i ? ", " : "", make("span", {}, `${other.finding} `), answer(other)]);
  return [make("p", { class: "muted others" }, "In the same image: ", ...parts)];
}

function showCase(row) {
  const content = JSON.parse(document.getElementById(`case-${places.get(row.key)}`).textContent);
  const title = make("h2", { tabindex: "-1" }, row.key);
  article.replaceChildren(navigation(row), title, ...otherFindings(row), ...caseBody(about, row, content, state.measure));
  document.title = `${row.key} – ${about.title}`;
  title.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function showMissing(key) {
  article.replaceChildren(make("h2", { tabindex: "-1" }, "No such case"),
    make("p", {}, `There is no case “${key}” in this report. `, make("a", { href: "#" }, "All cases")));
}

function route() {
  const key = keyOfHash(location.hash);
  const opening = key !== null;
  if (opening && article.hidden) state.scroll = window.scrollY;
  overview.hidden = opening;
  article.hidden = !opening;
  if (!opening) {
    article.replaceChildren();
    document.title = about.title;
    window.scrollTo(0, state.scroll);
    const link = state.last === null ? null : overview.querySelector(`a[href="${hashOfKey(state.last)}"]`);
    if (link) link.focus({ preventScroll: true });
    return;
  }
  state.last = places.has(key) ? key : null;
  if (places.has(key)) showCase(about.cases[places.get(key)]);
  else showMissing(key);
}

function steer(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || article.hidden) return;
  // A slider keeps its own arrow keys.
  if (event.target.matches && event.target.matches("input, select, textarea") && event.key !== "Escape") return;
  const row = about.cases[places.get(keyOfHash(location.hash))];
  if (event.key === "Escape") location.hash = "";
  if (!row) return;
  const { before, after } = around(row);
  if (event.key === "ArrowLeft" && before) location.hash = hashOfKey(before.key);
  if (event.key === "ArrowRight" && after) location.hash = hashOfKey(after.key);
}

buildOverview();
window.addEventListener("hashchange", route);
document.addEventListener("keydown", steer);
route();
