// Main: the models, the two parts of the page, and what each says.
import { ask, predict } from "./api.js";
import { Play } from "./game.js";
import { RegionMap } from "./map.js";
import { Photos } from "./photos.js";
import { showResult } from "./result.js";
import { at, km, make } from "./words.js";

const WAIT_MS = 200; // until no further photo comes
const NARROW = matchMedia("(max-width: 52rem)");
const map = new RegionMap();
const play = new Play(map, say, complain);
const photos = new Photos(changed);
let models = [], model = null, said = null, asking = null, timer = 0, most = Infinity;

// Says something to who cannot see the page; to all others too where it stands nowhere else.
function say(words, seen = false) {
  at("status").textContent = words;
  at("status").classList.toggle("hidden", !seen);
}

function complain(words) {
  at("problem").hidden = !words;
  at("problem").textContent = words;
}

function about() {
  const words = [`The model knows ${model.region}`];
  if (model.cells !== null) words.push(`${model.cells} cells of about ${km(model.cell_side_km)}`);
  if (model.test_error_km_mean !== null) words.push(`mean error ${km(model.test_error_km_mean)} on ${model.test_places} test places`);
  const label = model.data ? [make("span", { className: "label" }, `${model.data} data`), " "] : [];
  at("about").replaceChildren(...label, `${words.join("; ")}.`);
}

async function choose(name) {
  const chosen = models.find((one) => one.name === name);
  model = chosen;
  clearTimeout(timer);
  asking?.abort();
  at("map").dataset.region = model.region;
  about();
  const path = `/models/${encodeURIComponent(name)}`;
  const [outline, cells] = await Promise.all([ask(`${path}/outline`), ask(`${path}/cells`)]);
  if (model !== chosen) return; // another was chosen meanwhile, and its answer may have come first
  map.stopAim();
  map.show(model, outline, cells);
  play.offer(model);
  said = null;
  if (at("game").hidden) changed();
  else play.open();
}

// The photos have changed: asks the model, a moment later, and forgets what it was asked before.
function changed(remark = "") {
  clearTimeout(timer);
  asking?.abort();
  complain(remark);
  if (!photos.count) {
    said = null;
    map.clear();
    at("result").replaceChildren();
    say("");
    return;
  }
  say("Looking…", true);
  timer = setTimeout(look, WAIT_MS);
}

async function look() {
  if (photos.bytes > most * 2 ** 20) {
    say("");
    complain(`The photos have ${Math.ceil(photos.bytes / 2 ** 20)} MiB together; the server takes ${most}.`);
    return;
  }
  asking = new AbortController();
  try {
    said = await predict(model.name, photos.files, asking.signal);
    if (at("photos").hidden) return;
    say(showResult(map, model, said));
    if (NARROW.matches) at("map-box").scrollIntoView({ block: "end" });
  } catch (error) {
    if (error.name === "AbortError") return;
    map.clear();
    at("result").replaceChildren();
    say("");
    complain(error.message);
  }
}

// Which part of the page is open stands in its address, so that the browser's back button works.
function route() {
  const game = location.hash === "#game";
  at("photos").hidden = game;
  at("game").hidden = !game;
  at("to-photos").toggleAttribute("aria-current", false);
  at("to-game").toggleAttribute("aria-current", false);
  at(game ? "to-game" : "to-photos").setAttribute("aria-current", "page");
  complain("");
  if (!model) return;
  if (game) {
    play.open();
    return;
  }
  play.close();
  map.clear();
  map.whole();
  at("result").replaceChildren();
  if (said) say(showResult(map, model, said));
  else changed();
}

async function start() {
  try {
    ({ models, upload_mib: most } = await ask("/models"));
    at("model").replaceChildren(...models.map((one) => make("option", { value: one.name }, one.name)));
    at("model-choice").hidden = models.length < 2;
    at("model").addEventListener("change", (event) => choose(event.target.value).catch((error) => complain(error.message)));
    await choose(models[0].name);
  } catch (error) {
    complain(error.message);
  }
}

addEventListener("hashchange", route);
route();
start();
