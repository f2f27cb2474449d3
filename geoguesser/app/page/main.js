// Entry point of the page: the models, the two tabs (photos and game) and the status messages.
import { predict, request } from "./api.js";
import { byId, makeElement } from "./dom.js";
import { formatKm } from "./format.js";
import { Game } from "./game.js";
import { RegionMap } from "./map.js";
import { Photos } from "./photos.js";
import { showPrediction } from "./prediction.js";

// Several photos can be added one after the other. The request waits until none has been added for this time.
const WAIT_MS = 200;
const NARROW = matchMedia("(max-width: 52rem)");

const map = new RegionMap();
const game = new Game(map, setStatus, setProblem);
const photos = new Photos(updatePhotos);
let models = [], model = null, prediction = null, pending = null, timer = 0, maxMib = Infinity;

// Sets the status for screen readers. It is visible only if the page shows the same nowhere else.
function setStatus(text, visible = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("hidden", !visible);
}

function setProblem(text) {
  byId("problem").hidden = !text;
  byId("problem").textContent = text;
}

function clearResult() {
  map.clear();
  byId("result").replaceChildren();
  setStatus("");
}

function describeModel() {
  const facts = [`Model for ${model.region}`];
  if (model.cells !== null) facts.push(`${model.cells} cells of about ${formatKm(model.cell_side_km)}`);
  if (model.test_error_km_mean !== null) {
    facts.push(`mean error ${formatKm(model.test_error_km_mean)} on ${model.test_places} test places`);
  }
  const label = model.data ? [makeElement("span", { className: "label" }, `${model.data} data`), " "] : [];
  byId("about").replaceChildren(...label, `${facts.join("; ")}.`);
}

async function chooseModel(name) {
  const chosen = models.find((candidate) => candidate.name === name);
  model = chosen;
  clearTimeout(timer);
  pending?.abort();
  byId("map").dataset.region = model.region;
  describeModel();

  const path = `/models/${encodeURIComponent(name)}`;
  const [outline, cells] = await Promise.all([request(`${path}/outline`), request(`${path}/cells`)]);
  // Another model can have been chosen in the meantime; its responses can arrive earlier than these.
  if (model !== chosen) return;

  map.stopAim();
  map.showModel(model, outline, cells);
  game.setModel(model);
  prediction = null;
  if (byId("game").hidden) updatePhotos();
  else game.open();
}

// Replaces the pending request and the prediction after the photos have changed.
function updatePhotos(remark = "") {
  clearTimeout(timer);
  pending?.abort();
  setProblem(remark);
  if (!photos.count) {
    prediction = null;
    clearResult();
    return;
  }
  setStatus("Predicting…", true);
  timer = setTimeout(requestPrediction, WAIT_MS);
}

async function requestPrediction() {
  if (photos.bytes > maxMib * 2 ** 20) {
    setStatus("");
    setProblem(`The photos have ${Math.ceil(photos.bytes / 2 ** 20)} MiB together; the server accepts at most ${maxMib}.`);
    return;
  }

  pending = new AbortController();
  try {
    prediction = await predict(model.name, photos.files, pending.signal);
    if (byId("photos").hidden) return;
    setStatus(showPrediction(map, model, prediction));
    if (NARROW.matches) byId("map-box").scrollIntoView({ block: "end" });
  } catch (error) {
    if (error.name === "AbortError") return;
    clearResult();
    setProblem(error.message);
  }
}

// Opens the tab that the address names, so that the browser's back button works.
function openTab() {
  const isGame = location.hash === "#game";
  byId("photos").hidden = isGame;
  byId("game").hidden = !isGame;
  byId("to-photos").removeAttribute("aria-current");
  byId("to-game").removeAttribute("aria-current");
  byId(isGame ? "to-game" : "to-photos").setAttribute("aria-current", "page");
  setProblem("");
  if (!model) return;

  if (isGame) {
    game.open();
    return;
  }
  game.close();
  map.clear();
  map.showRegion();
  byId("result").replaceChildren();
  if (prediction) setStatus(showPrediction(map, model, prediction));
  else updatePhotos();
}

async function start() {
  try {
    ({ models, upload_mib: maxMib } = await request("/models"));
    byId("model").replaceChildren(...models.map(({ name }) => makeElement("option", { value: name }, name)));
    byId("model-choice").hidden = models.length < 2;
    byId("model").addEventListener("change", (event) =>
      chooseModel(event.target.value).catch((error) => setProblem(error.message)));
    await chooseModel(models[0].name);
  } catch (error) {
    setProblem(error.message);
  }
}

addEventListener("hashchange", openTab);
openTab();
start();
