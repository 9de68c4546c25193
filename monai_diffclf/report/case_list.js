// Order, filters and neighbours of cases, and how numbers are written. Nothing here touches the page.

const percent = (share, digits = 0) => (100 * share).toFixed(digits) + " %";

// Three digits that count, without an exponent where that is readable.
function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.0001 || size >= 100000)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

const isWrong = (row) => (row.label === null ? null : row.label !== row.predicted);

// The value of an uncertainty as it is shown, null where a case has none.
function shownValue(row, measure) {
  if (measure.name === "probability") return 1 - row.probability;
  const value = row.uncertainty[measure.name];
  return value === undefined ? null : value;
}

// The same as a number that is larger the less sure a case is; cases without one count as the surest.
function unsureness(row, measure) {
  const value = shownValue(row, measure);
  if (value === null) return -Infinity;
  return measure.surer ? -value : value;
}

// What a column of the overview is sorted by.
const sortKeys = {
  key: (row) => row.key,
  label: (row) => row.label,
  predicted: (row) => row.predicted,
  probability: (row) => row.probability,
  uncertainty: (row, measure) => unsureness(row, measure),
  set: (row) => (row.set === null ? null : row.set.length),
  ood: (row) => row.ood,
  warned: (row) => row.warned,
  verdict: (row) => isWrong(row),
};

const names = new Intl.Collator(undefined, { numeric: true });

function compare(a, b) {
  if (typeof a === "string") return names.compare(a, b);
  return a === b ? 0 : a < b ? -1 : 1;
}

// The rows sorted by a column; what is not known comes last either way, equals keep their order.
function sortRows(rows, column, descending, measure) {
  const keyed = rows.map((row) => [sortKeys[column](row, measure), row]);
  const known = keyed.filter(([key]) => key !== null);
  known.sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
  return known.concat(keyed.filter(([key]) => key === null)).map(([, row]) => row);
}

// The rows that meet all wishes; an empty wish is met by all.
function filterRows(rows, wish) {
  const text = (wish.text || "").toLowerCase();
  const tests = {
    finding: (row) => row.finding === wish.finding,
    predicted: (row) => String(row.predicted) === wish.predicted,
    label: (row) => String(row.label) === wish.label,
    verdict: (row) => isWrong(row) === (wish.verdict === "wrong"),
    set: (row) => row.set !== null && (wish.set === "one" ? row.set.length === 1 : row.set.length !== 1),
    ood: (row) => row.ood !== null && row.ood < 0.01,
  };
  const asked = Object.keys(tests).filter((name) => wish[name]);
  return rows.filter((row) => row.key.toLowerCase().includes(text) && asked.every((name) => tests[name](row)));
}

// Image -> finding -> its case, in the order of the cases.
function byImage(rows) {
  const images = new Map();
  for (const row of rows) {
    if (!images.has(row.image)) images.set(row.image, new Map());
    images.get(row.image).set(row.finding, row);
  }
  return images;
}

// The cases whose uncertainty is closest: up to `count` surer ones and as many less sure ones.
function neighbours(rows, row, measure, count) {
  const order = rows.slice().sort((a, b) =>
    compare(unsureness(a, measure), unsureness(b, measure)) || b.probability - a.probability);
  const place = order.indexOf(row);
  return { surer: order.slice(Math.max(0, place - count), place), lessSure: order.slice(place + 1, place + 1 + count) };
}

// Which part of the other cases is surer than this one.
function surerShare(rows, row, measure) {
  const own = unsureness(row, measure);
  const surer = rows.filter((other) => unsureness(other, measure) < own).length;
  return rows.length > 1 ? surer / (rows.length - 1) : null;
}

// The key in an address "#case=KEY", null without one.
function keyOfHash(hash) {
  if (!hash.startsWith("#case=")) return null;
  try {
    return decodeURIComponent(hash.slice(6));
  } catch {
    return hash.slice(6);
  }
}

const hashOfKey = (key) => "#case=" + encodeURIComponent(key);
