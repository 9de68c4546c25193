// The votes of one case by noise level, as an SVG picture: shares in bands of noise levels, and every draw as a dot.

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 640, left: 58, right: 12, bars: [22, 102], dots: [142, 272], height: 316 };

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const classColour = (k) => (k < 0 ? "var(--muted)" : `var(--class-${k % 6})`);

// Round numbers within a range, at most seven.
function ticks(low, high) {
  const raw = (high - low) / 6 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + 1e-9 * step; n += 1) found.push(n * step);
  return found;
}

function votesFigure(draws, classes) {
  const [first, last] = [draws.logSnr[0], draws.logSnr[draws.logSnr.length - 1]];
  const span = first - last || 1;
  const inner = PLOT.width - PLOT.left - PLOT.right;
  const x = (value) => PLOT.left + ((first - value) / span) * inner;
  const figure = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img" });
  figure.setAttribute("aria-label", votesInWords(draws, classes));
  figure.append(...bandBars(draws, classes, x, inner), ...drawDots(draws, x));
  for (const value of ticks(last, first)) {
    figure.append(svg("text", { x: x(value), y: PLOT.dots[1] + 18, class: "tick middle" }, number(value)));
  }
  const axis = [[0, "← less noise", "tick"], [0.5, "log signal-to-noise ratio", "tick middle"], [1, "more noise →", "tick end"]];
  for (const [place, words, kind] of axis) {
    figure.append(svg("text", { x: PLOT.left + place * inner, y: PLOT.height - 6, class: kind }, words));
  }
  return figure;
}

function bandBars(draws, classes, x, inner) {
  const [top_, bottom] = PLOT.bars;
  const parts = [svg("text", { x: 0, y: 12, class: "tick" }, "Votes in bands of noise levels")];
  for (const band of draws.bands) {
    const cast = band.votes.reduce((sum, votes) => sum + votes, 0) || 1;
    const start = draws.bands.length > 1 ? x(band.from) : PLOT.left;
    const width = draws.bands.length > 1 ? x(band.to) - start : inner;
    let height = bottom;
    band.votes.forEach((votes, k) => {
      const size = (votes / cast) * (bottom - top_);
      height -= size;
      const shape = { x: start + 0.75, y: height, width: Math.max(0.5, width - 1.5), height: size, fill: classColour(k) };
      if (votes > 0) parts.push(svg("rect", shape, svg("title", {}, `${number(votes)} of ${number(cast)} ${classes[k]}`)));
    });
  }
  for (const share of [0, 0.5, 1]) {
    const y = bottom - share * (bottom - top_);
    parts.push(svg("text", { x: PLOT.left - 8, y: y + 4, class: "tick end" }, percent(share)));
  }
  return parts;
}

function drawDots(draws, x) {
  const [top_, bottom] = PLOT.dots;
  const middle = (top_ + bottom) / 2;
  const largest = Math.max(...draws.advantage.map(Math.abs), 1e-12);
  const y = (value) => middle - (value / largest) * (bottom - top_) * 0.5;
  const words = "Each draw: by how much the class called denoises better (up) or worse (down)";
  const parts = [
    svg("text", { x: 0, y: top_ - 12, class: "tick" }, words),
    svg("line", { x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: middle, y2: middle, class: "axis" }),
  ];
  for (const value of [-largest, 0, largest]) {
    const label = (value > 0 ? "+" : "") + number(100 * value) + " %";
    parts.push(svg("text", { x: PLOT.left - 8, y: y(value) + 4, class: "tick end" }, label));
  }
  draws.advantage.forEach((value, i) => {
    const place = { cx: x(draws.logSnr[i]), cy: y(value), r: 3.2, fill: classColour(draws.winner[i]), class: "dot" };
    parts.push(svg("circle", place));
  });
  return parts;
}

// The same for those who cannot see the picture.
function votesInWords(draws, classes) {
  const counts = classes.map((name, k) => `${draws.winner.filter((winner) => winner === k).length} ${name}`);
  const tied = draws.winner.filter((winner) => winner < 0).length;
  const bands = draws.bands.map((band) => {
    const best = band.votes.indexOf(Math.max(...band.votes));
    return `log SNR ${number(band.from)} to ${number(band.to)} mostly ${classes[best]}`;
  });
  return `Votes of ${draws.winner.length} draws: ${counts.join(", ")}${tied ? `, ${tied} tied` : ""}. ${bands.join("; ")}.`;
}
