"""Games of a person against a model on test places, kept in memory up to a maximum number."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from geoguesser.app.game_places import GamePlaces
from geoguesser.app.problems import ProblemError
from geoguesser.app.registry import ServedModel
from geoguesser.app.schemas import RoundResult, make_point
from geoguesser.arrays import ByteArray
from geoguesser.data.images import decode_shrunk
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.score import compute_game_score

# The operating system's random numbers, so that nobody can predict the places of the next game.
RANDOM = secrets.SystemRandom()


@dataclass
class Game:
    """Game of several rounds, with the row of each round's place. Who knows its secret id can play on."""

    id: str
    model: ServedModel
    places: GamePlaces
    rows: list[int]
    results: list[RoundResult] = field(default_factory=list)

    @property
    def round(self) -> int | None:
        """Number of the current round, from 1; None if the game is over."""
        number = len(self.results) + 1
        return number if number <= len(self.rows) else None

    def guess(self, number: int, guess_deg: tuple[float, float]) -> None:
        """Ends the current round and appends its result; a 409 if `number` is another round."""
        if number != self.round:
            state = "the game is over" if self.round is None else f"round {self.round} is on"
            raise ProblemError(409, f"round must be the current one: {state}, got {number}.")

        row = self.rows[number - 1]
        true_deg, model_deg = self.places.true_deg[row], self.places.predicted_deg[row]
        errors_km = haversine_km(np.array([guess_deg, model_deg]), np.stack([true_deg, true_deg]))
        scores = compute_game_score(errors_km, self.model.ensemble.region.diagonal_km)

        result = RoundResult(
            round=number,
            truth=make_point(true_deg),
            your_guess=make_point(guess_deg),
            model_guess=make_point(model_deg),
            your_error_km=errors_km[0],
            model_error_km=errors_km[1],
            your_score=scores[0],
            model_score=scores[1],
        )
        self.results.append(result)

    def read_photo(
        self, number: int, heading: int, decode: Callable[[bytes, int], ByteArray] = decode_shrunk
    ) -> bytes | None:
        """Returns a view of a round's place as JPEG; None if it is missing or the round has not begun."""
        if not 1 <= number <= (self.round or len(self.rows)):
            return None
        return self.places.read_photo(self.rows[number - 1], heading, decode)


class Games:
    """Games in memory, of which the oldest are dropped first."""

    def __init__(self, max_games: int) -> None:
        self.max_games = max_games
        self._games: OrderedDict[str, Game] = OrderedDict()

    def begin(self, model: ServedModel, rounds: int) -> Game:
        """Begins a game on random places, each at most once.

        There are fewer rounds if there are fewer places, and a 404 if the model has no places for a game.
        """
        places = model.game_places
        if places is None:
            raise ProblemError(404, f"There is no game against this model. {model.no_game}")

        rows = RANDOM.sample(range(len(places)), min(rounds, len(places)))
        game = Game(secrets.token_urlsafe(16), model, places, rows)
        self._games[game.id] = game
        if len(self._games) > self.max_games:
            self._games.popitem(last=False)
        return game

    def find(self, game_id: str) -> Game:
        """Returns the game with the given id; a 404 if there is none or it has been dropped."""
        # A single access, because another thread may drop the game between a test and a read.
        game = self._games.get(game_id)
        if game is None:
            raise ProblemError(404, "There is no such game, or it was begun too long ago. Begin a new one.")
        return game
