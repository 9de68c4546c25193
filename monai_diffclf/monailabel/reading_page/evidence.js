// What a model says of an image, as text and bars. All of it is text: names and warnings are never HTML.

/** An element with a class, and children that are elements or text. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

/** Class and probability in a few words. */
export const shortly = (said) => `${said.label} ${percent(said.probabilities[said.label], 1)}`;

export function showEvidence(place, said) {
  const probability = said.probabilities[said.label];
  const parts = [
    make("p", "class-line", make("strong", "", said.label), ` ${percent(probability, 1)}`),
    ...bars("Probability", said.probabilities, said.calibrated ? "calibrated" : "not calibrated", said.label),
  ];
  if (said.vote_share) {
    parts.push(...bars("Votes of the noise draws", said.vote_share, `${said.num_draws} draws`, said.label));
  }
  parts.push(facts(said));
  for (const warning of said.warnings || []) parts.push(make("p", "warn", `Mind: ${warning}`));
  place.replaceChildren(...parts);
}

function bars(title, shares, note, top) {
  const list = make("ul", "bars");
  for (const [name, share] of Object.entries(shares)) {
    const fill = make("i", name === top ? "top" : "");
    fill.style.width = `${(100 * share).toFixed(2)}%`;
    const bar = make("span", "bar", fill);
    bar.setAttribute("aria-hidden", "true");
    list.append(make("li", "", make("span", "", name), bar, make("span", "", percent(share, 1))));
  }
  return [make("h3", "", `${title} (${note})`), list];
}

function facts(said) {
  const list = make("dl", "");
  const add = (term, ...what) => list.append(make("dt", "", term), make("dd", "", ...what));
  if (said.prediction_set) {
    const names = said.prediction_set.length ? said.prediction_set.join(", ") : "none: like nothing it knows";
    add("Prediction set", names);
  }
  add("Image", unusual(said));
  const entropy = said.uncertainty && said.uncertainty.probability_entropy;
  if (typeof entropy === "number") add("Uncertainty", `${entropy.toFixed(3)} nats (0 is sure)`);
  add("Map against", said.map.rival);
  return list;
}

/** How unusual an image is among those that the model knows. */
function unusual(said) {
  const p = said.ood_p_value;
  if (typeof p !== "number") return "not judged by this model";
  const text = p < 0.01 ? "unusual" : p < 0.05 ? "somewhat unusual" : "usual";
  const badge = make("span", p < 0.05 ? "badge unusual" : "badge", text);
  return make("span", "", badge, ` (p = ${p < 0.001 ? "below 0.001" : p.toFixed(3)})`);
}

export function showLegend(place, said) {
  place.replaceChildren(
    make("span", "swatch for"), `speaks for ${said.map.class}`,
    make("span", "swatch against"), `speaks for ${said.map.rival}`,
  );
}

export function describeCounterfactual(made) {
  const flips = { true: "the model takes it for that class", false: "the model still does not take it for that class" };
  const parts = [`As ${made.target}: ${flips[made.flipped] || "not judged"}.`];
  if (made.drifted) parts.push("Not all of the difference is the class's: the editing alone changes this image.");
  return parts.join(" ");
}

export function describeProgress({ labelled, left, bad, unsure, same, compared }) {
  const parts = [`${labelled} labelled`, `${left} left`];
  if (unsure) parts.push(`${unsure} unsure`);
  if (bad) parts.push(`${bad} bad`);
  if (compared) parts.push(`agreement with the model ${percent(same / compared)} (${same} of ${compared})`);
  return parts.join(" · ");
}
