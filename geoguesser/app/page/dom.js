// Finds and makes elements of the page.

export const byId = (id) => document.getElementById(id);

// makeElement("p", { className: "small" }, "text", otherElement). Text is never parsed as HTML.
export function makeElement(name, properties = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...content);
  return element;
}

// A list of numbers in large type, each with a caption.
export function makeTiles(entries, className = "tiles") {
  return makeElement("ul", { className },
    ...entries.map(([number, caption]) => makeElement("li", {}, makeElement("b", {}, number), caption)));
}
