// Result: a prediction on the map and in words.
import { at, coordinates, km, make, percent } from "./words.js";

export function showResult(map, model, said) {
  map.clear();
  draw(map, said);
  const where = said.in_region ? `on the land of ${model.region}` : `off the land of ${model.region}`;
  const used = said.views.length === 4 ? "all four directions" : said.views.join(", ");
  at("result").replaceChildren(
    make("h2", {}, `Best guess: ${coordinates(said.point)}`),
    make("p", { className: "small muted" }, `It lies ${where}. From ${said.views.length === 1 ? "a photo" : "photos"} of ${used}.`),
    tiles(said),
    make("p", { className: "small muted" }, sureness(model, said)),
    ...(said.top_cells.length ? [make("h3", {}, "Most probable cells"), topCells(map, said)] : []),
  );
  return `Best guess ${coordinates(said.point)}${said.expected_error_km === null ? "" : `, expected error ${km(said.expected_error_km)}`}.`;
}

function draw(map, said) {
  const most = Math.max(...said.posterior.map((one) => one.probability), 0);
  const layers = {};
  for (const { cell, probability } of said.posterior) {
    layers[cell] = map.cell(cell, probability / most, `Cell ${cell}: ${percent(probability)}`);
  }
  map.layers = layers;
  map.coast();
  const key = [["answer", "best guess"]];
  if (said.posterior.length) key.push(["ramp", `0 to ${percent(most)} probable`]);
  for (const [level, dashed] of [["90", true], ["50", false]]) {
    const geometry = said.areas?.[level];
    if (geometry?.coordinates.length) map.area(geometry, dashed);
    else if (said.radius_km[level] !== undefined && !said.posterior.length) map.circle(said.point, said.radius_km[level], dashed);
    else continue;
    key.push([dashed ? "line dashed" : "line", `${level} % area`]);
  }
  map.point(said.point, "answer", `Best guess: ${coordinates(said.point)}`, 9);
  map.key(key);
  map.label(`Map of ${at("map").dataset.region}: best guess ${coordinates(said.point)}`);
}

function tiles(said) {
  const entries = [];
  if (said.expected_error_km !== null) entries.push([km(said.expected_error_km), "expected error"]);
  for (const level of ["50", "90"]) {
    if (said.radius_km[level] !== undefined) entries.push([km(said.radius_km[level]), `${level}\u00a0% radius`]);
  }
  return make("ul", { className: "tiles" }, ...entries.map(([number, words]) => make("li", {}, make("b", {}, number), words)));
}

function sureness(model, said) {
  if (!model.calibrated) {
    const own = model.cells === null ? "" : " its probabilities are the network's own, and";
    return `This run has no calibration places:${own} it knows no radii.`;
  }
  const words = ["50", "90"].filter((level) => level in said.radius_km).map((level) => {
    const count = said.sets[level]?.length, cells = count === undefined ? "" : ` (or in ${count === 1 ? "one cell" : `${count} cells`})`;
    return `with ${level}\u00a0% within ${km(said.radius_km[level])}${cells}`;
  });
  if (!words.length) return "There were too few calibration places to say how near it is.";
  return `The place lies ${words.join(", ")}: right on average over places like those of the run's test.`;
}

function topCells(map, said) {
  const list = make("ol", { className: "shares" });
  const most = said.top_cells[0].probability;
  for (const { cell, probability } of said.top_cells) {
    const bar = make("i");
    bar.style.width = `${(100 * probability) / most}%`;
    const button = make("button", { type: "button", "aria-pressed": "false" },
      make("span", {}, `Cell ${cell}`), make("span", { className: "bar" }, bar), make("span", { className: "share" }, percent(probability)));
    button.addEventListener("click", () => choose(map, list, button, cell));
    list.append(make("li", {}, button));
  }
  return list;
}

// Shows one cell on the map; a second click shows all of it again.
function choose(map, list, button, cell) {
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(on && other === button));
  for (const [number, layer] of Object.entries(map.layers)) {
    layer.eachLayer((one) => one.getElement()?.classList.toggle("chosen", on && Number(number) === cell));
    if (on && Number(number) === cell) layer.eachLayer((one) => one.bringToFront());
  }
}
