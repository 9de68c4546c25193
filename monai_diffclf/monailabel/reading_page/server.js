// What the page asks its server for. Nothing else is ever asked.

let token = sessionStorage.getItem("token") || "";

/** An answer that is none: its reason is for the reader. */
export class Refusal extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

async function ask(path, { body, query, signal, method } = {}) {
  const address = new URL(path, new URL("/reader/", location.href));
  for (const [name, value] of Object.entries(query || {})) {
    if (value !== undefined && value !== null) address.searchParams.set(name, value);
  }
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address, {
      method: method || (body ? "POST" : "GET"), headers, signal, body: body && JSON.stringify(body),
      credentials: "same-origin", cache: "no-store", keepalive: Boolean(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "the server does not answer; is it still running?");
  }
  if (!response.ok) {
    let reason = response.statusText;
    try { reason = (await response.json()).detail; } catch { /* no JSON */ }
    throw new Refusal(response.status, String(reason));
  }
  return response;
}

const json = async (path, options) => (await ask(path, options)).json();

export const getState = () => json("state");
export const getNext = (body) => json("next", { body });
export const getPrediction = (query, signal) => json("prediction", { query, signal, method: "POST" });
export const makeCounterfactual = (query, signal) => json("counterfactual", { query, signal, method: "POST" });
export const sendAnswer = (body) => json("label", { body });

/** A plane of 16-bit numbers: {values, height, width, channels, slices, spacing: [height, width], window: [black, white]}. */
export async function getPixels(query, signal) {
  const response = await ask("pixels", { query, signal });
  const numbers = (name) => response.headers.get(`x-${name}`).split(",").map(Number);
  const [height, width, channels] = numbers("size");
  const buffer = await response.arrayBuffer();
  const values = query.of === "map" ? new Int16Array(buffer) : new Uint16Array(buffer);
  return { values, height, width, channels, slices: numbers("slices")[0], spacing: numbers("spacing"), window: numbers("window") };
}
