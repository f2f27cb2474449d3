// Game of a person against the model. The server sends the position of a place only after the guess.
import { HEADINGS, getViewUrl, postJson } from "./api.js";
import { byId, makeElement, makeTiles } from "./dom.js";
import { capitalize, formatKm, formatScore } from "./format.js";

const COUNTS = ["No places", "One place", "Two places", "Three places", "Four places", "Five places"];
// Scores are shown as integers, so that a smaller difference is a draw.
const MIN_DIFFERENCE = 0.5;

// Attributes: `game` is the state from the server, `shownRound` the round whose views are shown, `point` the guess.
export class Game {
  constructor(map, setStatus, setProblem) {
    Object.assign(this, { map, setStatus, setProblem, model: null, game: null, point: null, busy: false });
    byId("begin").addEventListener("click", () => this.begin());
    byId("guess").addEventListener("click", () => this.guess());
    byId("next").addEventListener("click", () => (this.game.round === null ? this.begin() : this.showRound()));
    byId("large").addEventListener("click", (event) => event.target === byId("large") && byId("large").close());
  }

  // Ends the game and offers a new one against the given model.
  setModel(model) {
    this.model = model;
    this.game = null;
    byId("no-game").hidden = model.game_places > 0;
    byId("no-game").textContent = `There is no game against this model. ${model.no_game}`;
    byId("game-start").hidden = model.game_places === 0;
    byId("place-count").textContent = COUNTS[Math.min(model.game_places, COUNTS.length - 1)];
    byId("round").hidden = byId("actions").hidden = true;
  }

  open() {
    this.map.clear();
    this.map.showRegion();
    byId("result").replaceChildren();
    this.setStatus("");
    byId("actions").hidden = !this.game;
    if (this.game) this.showState();
  }

  close() {
    this.map.stopAim();
    byId("actions").hidden = true;
  }

  // Runs a request unless another one is in progress, and shows its error.
  async attempt(sendRequest) {
    if (this.busy) return;
    this.busy = true;
    this.setProblem("");
    try {
      await sendRequest();
    } catch (error) {
      if (error.status === 404) this.drop();
      this.setProblem(error.message);
    }
    this.busy = false;
  }

  // Ends a game that the server no longer has.
  drop() {
    this.map.stopAim();
    if (!byId("game").hidden) {
      this.map.clear();
      byId("result").replaceChildren();
    }
    this.setModel(this.model);
  }

  begin() {
    return this.attempt(async () => {
      const { model } = this;
      const game = await postJson("/games", { model: model.name });
      // Another model can have been chosen in the meantime.
      if (this.model !== model) return;

      this.game = game;
      this.shownRound = game.round;
      byId("game-start").hidden = true;
      byId("round").hidden = false;
      byId("actions").hidden = byId("game").hidden;
      if (!byId("game").hidden) this.showRound();
    });
  }

  guess() {
    if (!this.point || this.shownRound !== this.game.round) return undefined;
    return this.attempt(async () => {
      const { game } = this;
      const state = await postJson(`/games/${game.game}/guess`, { round: this.shownRound, ...this.point });
      if (this.game !== game) return;

      this.game = state;
      // A game whose tab is not open is shown when it is opened.
      if (byId("game").hidden) return;
      this.showState();
      byId("next").focus({ preventScroll: true });
    });
  }

  showState() {
    if (this.shownRound === this.game.round) this.showRound();
    else this.showResult();
  }

  showRound() {
    const { round, rounds, views, game } = this.game;
    this.shownRound = round;
    this.point = null;
    byId("round-title").textContent = `Round ${round} of ${rounds}`;
    byId("views").replaceChildren(...HEADINGS.map((heading) =>
      makeView(heading, views.includes(heading) && getViewUrl(game, round, heading))));
    byId("guess").hidden = byId("round-help").hidden = false;
    byId("guess").disabled = true;
    byId("next").hidden = true;
    byId("cross-point").textContent = "";

    this.map.clear();
    this.map.showRegion();
    this.map.startAim((point, text) => this.setPoint(point, text), () => this.guess());
    byId("result").replaceChildren(this.makeTable());
    this.setStatus(`Round ${round} of ${rounds} has begun.`);
    // A wide screen shows everything; a narrow one scrolls back to the views above the map.
    byId("round-title").focus({ preventScroll: matchMedia("(min-width: 52rem)").matches });
  }

  setPoint(point, text) {
    this.point = point;
    byId("guess").disabled = false;
    byId("cross-point").textContent = text;
  }

  // Shows the result of the last round that is over.
  showResult() {
    const result = this.game.results.at(-1), isOver = this.game.round === null;
    this.map.stopAim();
    this.map.clear();
    this.map.addLine(result.your_guess, result.truth, "to-person");
    this.map.addLine(result.model_guess, result.truth, "to-prediction");
    this.map.addPoint(result.truth, "truth", "The place", 10);
    this.map.addPoint(result.model_guess, "prediction", `Model: ${formatKm(result.model_error_km)} off`);
    this.map.addPoint(result.your_guess, "person", `You: ${formatKm(result.your_error_km)} off`);
    this.map.setLegend([["truth", "the place"], ["person", "you"], ["prediction", "the model"]]);
    this.map.fitPoints([result.truth, result.your_guess, result.model_guess]);

    byId("guess").hidden = byId("round-help").hidden = true;
    byId("cross-point").textContent = "";
    byId("next").hidden = false;
    byId("next").textContent = isOver ? "Play again" : "Next round";

    const summary = describeRound(result);
    const heading = isOver
      ? [makeElement("h2", {}, this.describeWinner()), makeElement("p", {}, `Last round: ${summary}`)]
      : [makeElement("h2", {}, summary)];
    const tiles = makeTiles([
      [formatScore(result.your_score), `your score, ${formatKm(result.your_error_km)} off`],
      [formatScore(result.model_score), `the model's, ${formatKm(result.model_error_km)} off`],
    ], "tiles two");
    byId("result").replaceChildren(...heading, tiles, this.makeTable());
    this.setStatus(isOver ? `${summary} ${this.describeWinner()}` : summary);
  }

  describeWinner() {
    const difference = this.game.your_total - this.game.model_total;
    if (Math.abs(difference) < MIN_DIFFERENCE) return "The game is a draw.";
    return difference > 0 ? "You have won the game!" : "The model has won the game.";
  }

  makeTable() {
    const { results, your_total: yourTotal, model_total: modelTotal } = this.game;
    if (!results.length) return makeElement("span");

    const makeRow = (name, cells) => makeElement("tr", {}, makeElement("th", { scope: "row" }, name),
      ...cells.map((cell) => makeElement("td", {}, cell)));
    const head = makeElement("tr", {}, ...["Round", "You", "Score", "Model", "Score"].map((column) =>
      makeElement("th", { scope: "col" }, column)));
    const rows = results.map((result) => makeRow(String(result.round), [
      formatKm(result.your_error_km), formatScore(result.your_score),
      formatKm(result.model_error_km), formatScore(result.model_score),
    ]));
    return makeElement("table", {},
      makeElement("caption", { className: "hidden" }, "Distances and scores of all rounds"),
      makeElement("thead", {}, head),
      makeElement("tbody", {}, ...rows),
      makeElement("tfoot", {}, makeRow("Total", ["", formatScore(yourTotal), "", formatScore(modelTotal)])));
  }
}

function describeRound(result) {
  const difference = result.your_score - result.model_score;
  const nearer = difference > 0 ? "You were nearer" : "The model was nearer";
  const outcome = Math.abs(difference) < MIN_DIFFERENCE ? "A draw" : nearer;
  return `${outcome}: ${formatKm(result.your_error_km)} against ${formatKm(result.model_error_km)}.`;
}

// A view of the round, or an empty slot without an address.
function makeView(heading, url) {
  const name = makeElement("b", {}, capitalize(heading));
  if (!url) return makeElement("div", { className: "slot" }, makeElement("span", { className: "empty" }, "no view"), name);

  const image = makeElement("img", { src: url, alt: `View to the ${heading}` });
  const button = makeElement("button", { type: "button", className: "enlarge",
    "aria-label": `Enlarge the view to the ${heading}` }, image);
  button.addEventListener("click", () => {
    Object.assign(byId("large").querySelector("img"), { src: url, alt: image.alt });
    byId("large").showModal();
  });
  return makeElement("div", { className: "slot" }, button, name);
}
