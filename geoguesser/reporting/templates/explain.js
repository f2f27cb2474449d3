// Map of a report. All values are in the page; nothing is fetched.
const data = JSON.parse(document.getElementById("data").textContent);
const compass = ["north", "east", "south", "west"];
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const map = L.map("place-map", {
  preferCanvas: true, attributionControl: false, zoomSnap: 0.25, zoomAnimation: !still, fadeAnimation: !still,
  inertia: !still,
});
map.fitBounds(data.bounds, { animate: false });
map.setMinZoom(map.getZoom() - 2);
map.fitBounds(L.latLngBounds(data.places.flatMap((place) => [place.true, place.answer])).pad(0.06), { animate: false });
L.control.scale({ imperial: false }).addTo(map);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const errorColour = (km) =>
  data.colours[Math.min(data.colours.length - 1, Math.floor((km / data.top_km) * data.colours.length))];
const km = (value) => (value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : Math.round(value)) + " km";

// Leaflet parses a string as HTML, but shows a node as it is.
const plain = (text) => document.createTextNode(text);

const land = L.geoJSON(data.outline, { interactive: false }).addTo(map);
const posterior = L.layerGroup().addTo(map);
const lines = L.layerGroup().addTo(map);
const marks = L.layerGroup().addTo(map);
let current = -1;

const dots = data.places.map((place, number) => {
  const line = L.polyline([place.true, place.answer], { color: errorColour(place.error), weight: 1.5, opacity: 0.75,
    interactive: false }).addTo(lines);
  const dot = L.circleMarker(place.true, { radius: 5, weight: 1, fillOpacity: 0.95,
    fillColor: errorColour(place.error) });
  dot.addTo(lines).bindTooltip(() => plain(`${place.id}: ${km(place.error)}`)).on("click", () => select(number, false));
  return { line, dot };
});

// Moves a polygon to the side of the date line that is nearer to a longitude.
const near = (longitude, points) => {
  const middle = points.reduce((sum, point) => sum + point[0], 0) / points.length;
  const turns = Math.round((longitude - middle) / 360) * 360;
  return points.map(([x, y]) => [y, x + turns]);
};

function paint() {
  land.setStyle({ color: colour("--muted"), weight: 1, fillColor: colour("--hatch"), fillOpacity: 0.45 });
  for (const { dot } of dots) dot.setStyle({ color: colour("--paper") });
  draw();
}

function draw() {
  posterior.clearLayers();
  marks.clearLayers();
  if (current < 0) return;
  const place = data.places[current];
  const top = place.cells.length ? place.cells[0][1] : 1;
  for (const [number, probability] of place.cells) {
    L.polygon(near(place.answer[1], data.cells[number]), { color: "#b35900", weight: 0.6, fillColor: "#d95f02",
      fillOpacity: 0.08 + 0.62 * (probability / top) })
      .bindTooltip(plain(`${(100 * probability).toFixed(1)} %`), { sticky: true }).addTo(posterior);
  }
  posterior.eachLayer((cell) => cell.bringToBack());
  // Order from the bottom: land, cells, places.
  land.bringToBack();
  for (const [level, radius] of Object.entries(place.radii || {})) {
    L.circle(place.answer, { radius: radius * 1000, color: "#0072b2", weight: 1.5, fill: false, interactive: false,
      dashArray: level === "50" ? null : "6 4" }).addTo(marks);
  }
  L.polyline([place.true, place.answer], { color: colour("--ink"), weight: 2, dashArray: "4 4", interactive: false })
    .addTo(marks);
  L.circleMarker(place.answer, { radius: 7, color: "#ffffff", weight: 2, fillColor: "#0072b2", fillOpacity: 1 })
    .bindTooltip(plain("predicted point")).addTo(marks);
  L.circleMarker(place.true, { radius: 8, color: "#ffffff", weight: 2, fillColor: "#111111", fillOpacity: 1 })
    .bindTooltip(plain("true point")).addTo(marks);
}

const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
};

function show(place) {
  const box = document.getElementById("picked");
  box.replaceChildren(make("h3", place.id));
  const facts = make("dl", "", "facts small");
  const addFact = (name, value) => facts.append(make("dt", name), make("dd", value));
  addFact("error", km(place.error));
  if (place.expected !== undefined) addFact("expected", km(place.expected));
  for (const [level, radius] of Object.entries(place.radii || {})) addFact(`${level} % within`, km(radius));
  if (place.cells.length) {
    const shown = place.cells.reduce((sum, [, probability]) => sum + probability, 0);
    addFact("most probable cell", `${(100 * place.cells[0][1]).toFixed(1)} %`);
    addFact("cells drawn", `${place.cells.length}, with ${(100 * shown).toFixed(0)} % of the probability`);
  }
  addFact("true point", place.true.map((value) => value.toFixed(4)).join(", "));
  addFact("predicted point", place.answer.map((value) => value.toFixed(4)).join(", "));
  box.append(facts);
  if (place.views) {
    const views = make("div", "", "views");
    place.views.forEach((jpeg, heading) => {
      const view = make("div", "", jpeg ? "view" : "view none");
      if (jpeg) {
        const image = make("img");
        image.src = `data:image/jpeg;base64,${jpeg}`;
        image.alt = `view to the ${compass[heading]} of place ${place.id}`;
        view.append(image);
      } else {
        view.append(make("i", "no view"));
      }
      view.append(make("b", compass[heading][0].toUpperCase()));
      views.append(view);
    });
    box.append(views);
  } else {
    box.append(make("p", "The views of this place are not embedded in this page.", "muted small"));
  }
  const steps = make("div", "", "steps");
  for (const [text, step] of [["Previous", -1], ["Next", 1]]) {
    const button = make("button", text);
    button.type = "button";
    button.addEventListener("click", () => go(step));
    steps.append(button);
  }
  box.append(steps);
}

const body = document.querySelector(".finder tbody");
const rowOf = (number) => body.querySelector(`[data-place="${number}"]`).closest("tr");

function select(number, move = true) {
  if (current >= 0) rowOf(current).removeAttribute("aria-current");
  current = number;
  rowOf(number).setAttribute("aria-current", "true");
  const place = data.places[number];
  if (move) map.fitBounds(L.latLngBounds([place.true, place.answer]).pad(1), { maxZoom: map.getZoom() + 3, animate: false });
  draw();
  show(place);
}

function go(step) {
  const rows = [...body.rows].filter((row) => !row.hidden);
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.hasAttribute("aria-current"));
  // If the current place is filtered away: the first or the last place listed.
  const from = at < 0 && step < 0 ? 0 : at;
  select(Number(rows[(from + step + rows.length) % rows.length].querySelector("button").dataset.place));
  document.querySelectorAll(".steps button")[step < 0 ? 0 : 1].focus();
}

body.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place]");
  if (!button) return;
  select(Number(button.dataset.place));
  document.getElementById("picked").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "nearest" });
});

const filter = document.getElementById("filter"), seen = document.getElementById("seen");
function sift() {
  const words = filter.value.trim().toLowerCase();
  let count = 0;
  for (const row of body.rows) {
    const place = data.places[Number(row.querySelector("button").dataset.place)];
    row.hidden = !place.id.toLowerCase().includes(words) || (seen.checked && !place.views);
    count += !row.hidden;
  }
  document.getElementById("count").textContent = `${count} of ${body.rows.length} places listed`;
}
filter.addEventListener("input", sift);
seen.addEventListener("change", sift);
document.querySelector(".finder").hidden = false;
sift();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
paint();
select(Math.floor(data.places.length / 2), false);
