// Game: a person against the model. The server knows where the places are, and says so only after a guess.
import { ask, send } from "./api.js";
import { HEADINGS, at, capital, km, make, score } from "./words.js";

const ROUNDS = ["No places", "One place", "Two places", "Three places", "Four places", "Five places"];

export class Play {
  constructor(map, say, complain) {
    Object.assign(this, { map, say, complain, game: null, point: null, busy: false });
    at("begin").addEventListener("click", () => this.begin());
    at("guess").addEventListener("click", () => this.guess());
    at("next").addEventListener("click", () => (this.game.round === null ? this.begin() : this.round()));
    at("large").addEventListener("click", (event) => event.target === at("large") && at("large").close());
  }

  // Another model, or the first time: what there was is over.
  offer(model) {
    this.model = model;
    this.game = null;
    at("no-game").hidden = model.game_places > 0;
    at("no-game").textContent = `There is no game with this model. ${model.no_game}`;
    at("game-start").hidden = model.game_places === 0;
    at("how-many").textContent = ROUNDS[Math.min(model.game_places, ROUNDS.length - 1)];
    at("round").hidden = at("act").hidden = true;
  }

  // Comes back to the page's part of the game.
  open() {
    this.map.clear();
    this.map.whole();
    at("result").replaceChildren();
    this.say("");
    at("act").hidden = !this.game;
    if (this.game) this.shown();
  }

  close() {
    this.map.stopAim();
    at("act").hidden = true;
  }

  async attempt(work) {
    if (this.busy) return;
    this.busy = true;
    this.complain("");
    try {
      await work();
    } catch (error) {
      if (error.status === 404) this.forget();
      this.complain(error.message);
    }
    this.busy = false;
  }

  // The server no longer knows the game: a new one can begin.
  forget() {
    this.map.stopAim();
    if (!at("game").hidden) {
      this.map.clear();
      at("result").replaceChildren();
    }
    this.offer(this.model);
  }

  begin() {
    return this.attempt(async () => {
      const { model } = this;
      const game = await send("/games", { model: model.name });
      if (this.model !== model) return; // another was chosen meanwhile
      this.game = game;
      this.showing = game.round;
      at("game-start").hidden = true;
      at("round").hidden = false;
      at("act").hidden = at("game").hidden;
      if (!at("game").hidden) this.round();
    });
  }

  // Shows the round that is on.
  round() {
    const { round, rounds, views, game } = this.game;
    this.showing = round;
    this.point = null;
    at("round-title").textContent = `Round ${round} of ${rounds}`;
    at("views").replaceChildren(...HEADINGS.map((heading) => view(heading, views.includes(heading) &&
      `/api/v1/games/${game}/rounds/${round}/views/${heading}`)));
    at("guess").hidden = at("round-how").hidden = false;
    at("guess").disabled = true;
    at("next").hidden = true;
    at("cross-at").textContent = "";
    this.map.clear();
    this.map.whole();
    this.map.startAim((point, words) => this.aimed(point, words), () => this.guess());
    at("result").replaceChildren(this.table());
    this.say(`Round ${round} of ${rounds} has begun.`);
    at("round-title").focus({ preventScroll: matchMedia("(min-width: 52rem)").matches });
  }

  aimed(point, words) {
    this.point = point;
    at("guess").disabled = false;
    at("cross-at").textContent = words;
  }

  guess() {
    if (!this.point || this.showing !== this.game.round) return undefined;
    return this.attempt(async () => {
      const { game } = this;
      const told = await send(`/games/${game.game}/guess`, { round: this.showing, ...this.point });
      if (this.game !== game) return; // another model was chosen meanwhile
      this.game = told;
      if (at("game").hidden) return; // it is shown when the person comes back
      this.shown();
      at("next").focus({ preventScroll: true });
    });
  }

  // Shows what came of the last round; where one is on that had begun, that one.
  shown() {
    if (this.showing === this.game.round) return this.round();
    const result = this.game.results.at(-1), over = this.game.round === null;
    this.map.stopAim();
    this.map.clear();
    this.map.line(result.your_guess, result.truth, "to-own");
    this.map.line(result.model_guess, result.truth, "to-answer");
    this.map.point(result.truth, "truth", "The place", 10);
    this.map.point(result.model_guess, "answer", `Model: ${km(result.model_error_km)} off`);
    this.map.point(result.your_guess, "own", `You: ${km(result.your_error_km)} off`);
    this.map.key([["truth", "the place"], ["own", "you"], ["answer", "the model"]]);
    this.map.fit([result.truth, result.your_guess, result.model_guess]);
    at("guess").hidden = at("round-how").hidden = true;
    at("cross-at").textContent = "";
    at("next").hidden = false;
    at("next").textContent = over ? "Play again" : "Next round";
    const words = this.words(result);
    const heading = over ? [make("h2", {}, this.winner()), make("p", {}, `In the last round: ${words}`)] : [make("h2", {}, words)];
    at("result").replaceChildren(...heading, tiles(result), this.table());
    this.say(over ? `${words} ${this.winner()}` : words);
    return undefined;
  }

  words(result) {
    const gap = result.your_score - result.model_score;
    const better = Math.abs(gap) < 0.5 ? "A draw" : gap > 0 ? "You were nearer" : "The model was nearer";
    return `${better}: ${km(result.your_error_km)} against ${km(result.model_error_km)}.`;
  }

  winner() {
    const { your_total: own, model_total: other } = this.game;
    return Math.abs(own - other) < 0.5 ? "The game is a draw." : own > other ? "You have won the game!" : "The model has won the game.";
  }

  table() {
    const { results, your_total: own, model_total: other } = this.game;
    if (!results.length) return make("span");
    const row = (name, cells, kind = "td") => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make(kind, {}, cell)));
    const head = make("tr", {}, ...["Round", "You", "Score", "Model", "Score"].map((word) => make("th", { scope: "col" }, word)));
    const rows = results.map((one) => row(String(one.round),
      [km(one.your_error_km), score(one.your_score), km(one.model_error_km), score(one.model_score)]));
    return make("table", {}, make("caption", { className: "hidden" }, "Distances and scores of all rounds"),
      make("thead", {}, head), make("tbody", {}, ...rows), make("tfoot", {}, row("Total", ["", score(own), "", score(other)])));
  }
}

function tiles(result) {
  const entries = [[score(result.your_score), `your score, ${km(result.your_error_km)} off`],
    [score(result.model_score), `the model's, ${km(result.model_error_km)} off`]];
  return make("ul", { className: "tiles two" }, ...entries.map(([number, words]) => make("li", {}, make("b", {}, number), words)));
}

function view(heading, source) {
  const name = make("b", {}, capital(heading));
  if (!source) return make("div", { className: "slot" }, make("span", { className: "empty" }, "no view"), name);
  const image = make("img", { src: source, alt: `View to the ${heading}` });
  const button = make("button", { type: "button", className: "shown", "aria-label": `Enlarge the view to the ${heading}` }, image);
  button.addEventListener("click", () => {
    const large = at("large").querySelector("img");
    large.src = source;
    large.alt = `View to the ${heading}`;
    at("large").showModal();
  });
  return make("div", { className: "slot" }, button, name);
}
