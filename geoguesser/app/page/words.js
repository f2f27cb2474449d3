// Words: numbers as people read them, and elements made of text alone (never of HTML).

export const HEADINGS = ["north", "east", "south", "west"];

export function km(value) {
  const digits = value < 1 ? 2 : value < 10 ? 1 : 0;
  return `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}\u00a0km`;
}

export function percent(share) {
  const value = 100 * share;
  return value > 0 && value < 1 ? "<\u00a01\u00a0%" : `${Math.round(value)}\u00a0%`;
}

export function score(value) {
  return Math.round(value).toLocaleString("en");
}

export function coordinates({ latitude, longitude }) {
  const side = longitude < 0 ? "W" : "E", half = latitude < 0 ? "S" : "N";
  return `${Math.abs(latitude).toFixed(4)}°\u00a0${half}, ${Math.abs(longitude).toFixed(4)}°\u00a0${side}`;
}

export function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}

// An element: make("p", { className: "small" }, "text", otherElement)
export function make(name, properties = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...content);
  return element;
}

export const at = (id) => document.getElementById(id);
