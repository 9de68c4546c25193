// One case, as a piece of the page.

// Kept from case to case.
const settings = { strength: 0.8, sharedScale: false, blend: 1 };

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const className = (about, k) => make("b", { class: `c${k % 6}` }, about.classes[k]);

function film(layers, caption) {
  const images = layers.map(({ source, words, opacity }) => make("img", {
    src: source, alt: words, style: opacity === undefined ? null : `opacity:${opacity}`,
  }));
  return make("figure", { class: "film" }, make("div", { class: "layers" }, ...images), make("figcaption", {}, ...caption));
}

function slider(words, value, changed) {
  const input = make("input", { type: "range", min: 0, max: 1, step: 0.01, value });
  input.addEventListener("input", () => changed(Number(input.value)));
  return make("label", {}, words + " ", input);
}

function verdict(about, row) {
  const wrong = isWrong(row);
  const parts = ["Called ", className(about, row.predicted), ` with ${percent(row.probability, 1)}`];
  if (wrong !== null) parts.push(", truth ", className(about, row.label), ": ");
  const judged = wrong === null ? null : make("span", { class: wrong ? "wrong" : "right" }, wrong ? "wrong" : "right");
  return make("p", { class: "lead" }, ...parts, judged);
}

function warnings(row, content) {
  const found = content.warnings ? [content.warnings] : [];
  if (row.ood !== null && row.ood < 0.01) {
    found.push(`Unlike the images the model was fitted on (p = ${number(row.ood)}): class and probability may mean nothing.`);
  }
  if (content.decided === false) found.push("The draws ran out before the class had the stopping rule's guarantee.");
  const painted = content.counterfactual;
  if (painted && painted.warning) found.push(painted.warning);
  return found.map((words) => make("p", { class: "notice" }, words));
}

const rivalName = (about, content) => (content.rival === null ? "another class" : className(about, content.rival));

// How strongly the map is laid on; `paint` is called with its opacity.
function mapControls(about, content, paint) {
  const shared = content.mapLimit / about.mapLimit;
  const repaint = () => paint(settings.strength * (settings.sharedScale && shared < 1 ? shared : 1));
  repaint();
  const scale = make("input", { type: "checkbox", checked: settings.sharedScale });
  scale.addEventListener("change", () => { settings.sharedScale = scale.checked; repaint(); });
  return make("div", { class: "controls" },
    slider("Map strength", settings.strength, (value) => { settings.strength = value; repaint(); }),
    make("label", {}, scale, " one scale for all cases"));
}

function imageAndMap(about, row, content) {
  const image = { source: content.image, words: `Image ${row.key}` };
  const films = [film([image], ["Image", content.note ? `, ${content.note}` : ""])];
  if (!content.map) return make("div", { class: "films" }, ...films);
  const words = ["Where it speaks for ", className(about, row.predicted), " or for ", rivalName(about, content)];
  const mapped = film([image, { source: content.map, words: "Decision map laid over the image" }], words);
  const overlay = mapped.querySelectorAll("img")[1];
  mapped.append(mapControls(about, content, (opacity) => { overlay.style.opacity = opacity; }));
  return make("div", { class: "films" }, ...films, mapped);
}

function classTable(about, row, content) {
  const columns = [["Probability", content.probabilities]];
  if (content.uncalibrated) columns.push(["Uncalibrated", content.uncalibrated]);
  if (content.voteShare) columns.push(["Votes", content.voteShare]);
  const head = ["Class", ...columns.map(([name]) => name), ...(row.set === null ? [] : ["In set"])];
  const lines = about.classes.map((_, k) => {
    const cells = columns.map(([, values], i) => make("td", { class: "number" },
      i ? null : make("span", { class: "bar" }, make("i", { style: `width:${100 * values[k]}%;background:${classColour(k)}` })),
      percent(values[k], 1)));
    const inSet = row.set === null ? null : make("td", { class: "number" }, row.set.includes(k) ? "yes" : "no");
    return make("tr", {}, make("th", { scope: "row" }, className(about, k)), ...cells, inSet);
  });
  const titles = make("tr", {}, ...head.map((name, i) => make("th", { scope: "col", class: i ? "number" : null }, name)));
  return make("table", { class: "classes" }, make("thead", {}, titles), make("tbody", {}, ...lines));
}

function uncertaintySection(about, row, content) {
  const tile = (title, value, ...words) => make("div", {}, make("dt", {}, title), make("dd", {}, value),
    ...words.filter(Boolean).map((line) => make("dd", { class: "fine" }, line)));
  const tiles = about.uncertainties.filter((measure) => shownValue(row, measure) !== null).map((measure) => {
    const share = surerShare(about.cases, row, measure);
    const rank = share === null ? "" : `less sure than ${percent(share)} of the cases`;
    return tile(measure.title, number(shownValue(row, measure)), rank, measure.words);
  });
  if (row.ood !== null || content.oodScore !== null) {
    const value = row.ood === null ? number(content.oodScore) : `p = ${number(row.ood)}`;
    const score = row.ood === null || content.oodScore === null ? "" : `score ${number(content.oodScore)}`;
    tiles.push(tile("Out of distribution", value, score, "p is the share of the model's own images that are less alike still"));
  }
  if (content.networkEvaluations !== null) {
    tiles.push(tile("Network evaluations", number(content.networkEvaluations), "spent on this image"));
  }
  return make("section", {}, make("h3", {}, "How sure"), make("dl", { class: "measures" }, ...tiles));
}

function counterfactual(about, row, content) {
  const painted = content.counterfactual;
  if (!painted) return null;
  const { factual, counterfactual: other, target } = painted;
  const slid = film([{ source: factual, words: "Factual" }, { source: other, words: "Counterfactual", opacity: settings.blend }],
    ["Painted as ", className(about, target), ", the counterfactual"]);
  const upper = slid.querySelectorAll("img")[1];
  slid.append(make("div", { class: "controls" },
    slider("Factual to counterfactual", settings.blend, (value) => { settings.blend = value; upper.style.opacity = value; })));
  const legend = (colour, words) => make("span", { class: "key" }, make("i", { style: `background:${colour}` }), words);
  const changed = film([{ source: content.image, words: "Image" }, { source: painted.difference, words: "What the counterfactual changes" }],
    ["Counterfactual less image: ", legend(about.colours.brighter, "brighter"), legend(about.colours.darker, "darker"),
      ` (full colour: ${percent(painted.differenceLimit, 1)} of black to white)`]);
  const asked = [["Our own classifier", painted.flipped], ["The baseline", painted.flippedBaseline]];
  const words = asked.filter(([, flipped]) => flipped !== null)
    .map(([who, flipped]) => `${who} ${flipped ? "calls" : "does not call"} the counterfactual ${about.classes[target]}. `);
  if (painted.drift !== null) words.push(`The factual differs from the image by ${percent(painted.drift, 1)} of black to white on average.`);
  return make("section", {}, make("h3", {}, "The same image, had it been ", className(about, target)),
    make("p", {}, ...words),
    make("div", { class: "films three" },
      film([{ source: factual, words: "Factual" }], ["Painted again, the factual"]), slid, changed));
}

function nearestImages(about, row, content) {
  if (!content.nearest || !content.nearest.length) return null;
  const near = ({ key, label, distance, picture }) => make("li", {},
    picture ? make("img", { src: picture, alt: `Training image ${key}` }) : null,
    make("span", {}, key), make("small", {}, className(about, label), ` at ${number(distance)}`));
  const group = (title, list) => (list.length
    ? make("div", {}, make("h4", {}, ...title), make("ul", {}, ...list.map(near))) : null);
  const edited = content.nearest.filter(({ asClass }) => asClass !== null);
  const title = edited.length ? ["Edited towards ", className(about, edited[0].asClass)] : [""];
  return make("section", {}, make("h3", {}, "Nearest training images"),
    make("p", { class: "muted" }, "By the encoder's features, as the image is, and after the model has made them more like another class."),
    make("div", { class: "neighbours nearest" },
      group(["As it is"], content.nearest.filter(({ asClass }) => asClass === null)), group(title, edited)));
}

function neighbourLinks(about, row, measure) {
  const { surer, lessSure } = neighbours(about.cases, row, measure, 3);
  const link = (other) => make("li", {}, make("a", { href: hashOfKey(other.key) },
    make("img", { src: other.thumbnail, alt: "" }), make("span", {}, other.key),
    make("small", {}, `${about.classes[other.predicted]}, ${number(shownValue(other, measure))}`)));
  const group = (title, list) => (list.length
    ? make("div", {}, make("h4", {}, title), make("ul", {}, ...list.map(link))) : null);
  return make("section", {}, make("h3", {}, "Neighbours in uncertainty"),
    make("p", { class: "muted" }, `By ${measure.title.toLowerCase()}, here ${number(shownValue(row, measure))}.`),
    make("nav", { class: "neighbours", "aria-label": "Neighbours in uncertainty" },
      group("A little surer", surer), group("A little less sure", lessSure)));
}

function votesSection(about, row, content) {
  if (!content.draws) return null;
  const { vote_share_low: low, vote_share_high: high } = row.uncertainty;
  const interval = typeof low === "number" && typeof high === "number"
    ? ` The winner's share lies between ${percent(low)} and ${percent(high)} with 95 % confidence.` : "";
  const legend = about.classes.map((name, k) =>
    make("span", { class: "key" }, make("i", { style: `background:${classColour(k)}` }), name));
  return make("section", {}, make("h3", {}, "Votes by noise level"),
    make("p", {}, `${content.draws.winner.length} draws of noise voted.${interval} `, ...legend),
    make("figure", { class: "plot" }, votesFigure(content.draws, about.classes)));
}

// All of a case below its heading.
function caseBody(about, row, content, measure) {
  return [
    verdict(about, row),
    ...warnings(row, content),
    make("div", { class: content.volume ? "first volume" : "first" },
      content.volume ? volumeAndMap(about, row, content) : imageAndMap(about, row, content),
      make("div", { class: "wide" }, classTable(about, row, content))),
    uncertaintySection(about, row, content),
    counterfactual(about, row, content),
    nearestImages(about, row, content),
    votesSection(about, row, content),
    neighbourLinks(about, row, measure),
  ].filter(Boolean);
}
