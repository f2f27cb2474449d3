// Shows a prediction on the map and as text.
import { byId, makeElement, makeTiles } from "./dom.js";
import { formatKm, formatPercent, formatPoint } from "./format.js";

// Returns the text for the page's status.
export function showPrediction(map, model, prediction) {
  map.clear();
  drawPrediction(map, prediction);

  const { point, views, expected_error_km: expectedKm } = prediction;
  const land = `${prediction.in_region ? "on" : "off"} the land of ${model.region}`;
  const directions = views.length === 4 ? "all four directions" : views.join(", ");
  byId("result").replaceChildren(
    makeElement("h2", {}, `Best guess: ${formatPoint(point)}`),
    makeElement("p", { className: "small muted" },
      `The point lies ${land}. Predicted from ${views.length === 1 ? "a photo" : "photos"} of ${directions}.`),
    makeUncertaintyTiles(prediction),
    makeElement("p", { className: "small muted" }, describeUncertainty(model, prediction)),
    ...(prediction.top_cells.length ? [makeElement("h3", {}, "Most probable cells"), makeTopCells(map, prediction)] : []),
  );
  return `Best guess ${formatPoint(point)}${expectedKm === null ? "" : `, expected error ${formatKm(expectedKm)}`}.`;
}

function drawPrediction(map, prediction) {
  const { point, posterior, areas, radius_km: radiusKm } = prediction;
  const maxProbability = Math.max(...posterior.map(({ probability }) => probability), 0);
  map.cellLayers = {};
  for (const { cell, probability } of posterior) {
    const title = `Cell ${cell}: ${formatPercent(probability)}`;
    map.cellLayers[cell] = map.addCell(cell, probability / maxProbability, title);
  }
  map.addCoast();

  const legend = [["prediction", "best guess"]];
  if (posterior.length) legend.push(["ramp", `0 to ${formatPercent(maxProbability)} probable`]);
  for (const [level, dashed] of [["90", true], ["50", false]]) {
    const geometry = areas?.[level];
    if (geometry?.coordinates.length) map.addArea(geometry, dashed);
    else if (radiusKm[level] !== undefined && !posterior.length) map.addCircle(point, radiusKm[level], dashed);
    else continue;
    legend.push([dashed ? "line dashed" : "line", `${level} % area`]);
  }

  map.addPoint(point, "prediction", `Best guess: ${formatPoint(point)}`, 9);
  map.setLegend(legend);
  map.setLabel(`Map of ${byId("map").dataset.region}: best guess ${formatPoint(point)}`);
}

function makeUncertaintyTiles({ expected_error_km: expectedKm, radius_km: radiusKm }) {
  const entries = ["50", "90"].filter((level) => level in radiusKm).map((level) =>
    [formatKm(radiusKm[level]), `${level}\u00a0% radius`]);
  if (expectedKm !== null) entries.unshift([formatKm(expectedKm), "expected error"]);
  return makeTiles(entries);
}

function describeUncertainty(model, { radius_km: radiusKm, sets }) {
  if (!model.calibrated) {
    const probabilities = model.cells === null ? "" : "its probabilities are those of the network, and ";
    return `This run has no calibration places: ${probabilities}it has no radii.`;
  }

  const statements = ["50", "90"].filter((level) => level in radiusKm).map((level) => {
    const count = sets[level]?.length;
    const cells = count === undefined ? "" : ` (or in ${count === 1 ? "one cell" : `${count} cells`})`;
    return `within ${formatKm(radiusKm[level])}${cells} with ${level}\u00a0% probability`;
  });
  if (!statements.length) return "The run had too few calibration places to estimate radii.";
  return `The place lies ${statements.join(", and ")}, on average over places like those of the run's test split.`;
}

function makeTopCells(map, { top_cells: topCells }) {
  const list = makeElement("ol", { className: "shares" });
  for (const { cell, probability } of topCells) {
    const bar = makeElement("i");
    bar.style.width = `${(100 * probability) / topCells[0].probability}%`;
    const button = makeElement("button", { type: "button", "aria-pressed": "false" },
      makeElement("span", {}, `Cell ${cell}`),
      makeElement("span", { className: "bar" }, bar),
      makeElement("span", { className: "share" }, formatPercent(probability)));
    button.addEventListener("click", () => toggleCell(map, list, button, cell));
    list.append(makeElement("li", {}, button));
  }
  return list;
}

// Highlights a cell on the map; a second click removes the highlight.
function toggleCell(map, list, button, cell) {
  const highlight = button.getAttribute("aria-pressed") !== "true";
  for (const other of list.querySelectorAll("button")) {
    other.setAttribute("aria-pressed", String(highlight && other === button));
  }
  for (const [number, layer] of Object.entries(map.cellLayers)) {
    const chosen = highlight && Number(number) === cell;
    layer.eachLayer((shape) => shape.getElement()?.classList.toggle("chosen", chosen));
    if (chosen) layer.eachLayer((shape) => shape.bringToFront());
  }
}
