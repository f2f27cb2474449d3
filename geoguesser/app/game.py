"""Game: person against model on held-out places. The state of all games, in memory and bounded; no HTTP here."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from geoguesser.app.game_places import GamePlaces
from geoguesser.app.problems import ProblemError
from geoguesser.app.registry import ServedModel
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.score import compute_game_score

RANDOM = secrets.SystemRandom()  # nobody can foresee the places of the next game


@dataclass(frozen=True)
class PlayedRound:
    """A round that is over: points as latitude and longitude in degrees; errors and scores of person and model."""

    true_deg: tuple[float, float]
    guess_deg: tuple[float, float]
    model_deg: tuple[float, float]
    error_km: float
    model_error_km: float
    score: float
    model_score: float


@dataclass
class Game:
    """One game.

    Attributes:
        id: What its player knows it by.
        model: Against whom.
        places: The places that it is played on.
        rows: Which of them, one a round.
        results: Of the rounds that are over.
    """

    id: str
    model: ServedModel
    places: GamePlaces
    rows: list[int]
    results: list[PlayedRound] = field(default_factory=list)

    @property
    def round(self) -> int | None:
        """The number of the round that is on, from 1; None when all are over."""
        done = len(self.results)
        return done + 1 if done < len(self.rows) else None

    def guess(self, number: int, guess_deg: tuple[float, float]) -> PlayedRound:
        """Ends a round.

        Args:
            number: Of the round.
            guess_deg: Latitude and longitude.

        Raises:
            ProblemError: 409, that round is not on.
        """
        if number != self.round:
            on = "the game is over" if self.round is None else f"round {self.round} is on"
            raise ProblemError(409, f"round must be the one that is on: {on}, got {number}.")
        row = self.rows[number - 1]
        true, model = self.places.true_deg[row], self.places.predicted_deg[row]
        errors = haversine_km(np.array([guess_deg, model]), np.stack([true, true]))
        scores = compute_game_score(errors, self.model.ensemble.region.diagonal_km)
        result = PlayedRound(
            (float(true[0]), float(true[1])),
            guess_deg,
            (float(model[0]), float(model[1])),
            float(errors[0]),
            float(errors[1]),
            float(scores[0]),
            float(scores[1]),
        )
        self.results.append(result)
        return result

    def photo(self, number: int, heading: int) -> bytes | None:
        """A view of a round's place as JPEG; None where there is none, or the round has not begun."""
        if not 1 <= number <= (self.round or len(self.rows)):
            return None
        return self.places.photo(self.rows[number - 1], heading)


class Games:
    """All games that are remembered.

    Args:
        most: How many; the oldest go first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._games: OrderedDict[str, Game] = OrderedDict()

    def begin(self, model: ServedModel, rounds: int) -> Game:
        """Draws places without putting any back; fewer rounds where there are fewer places.

        Raises:
            ProblemError: 404, the model has no game.
        """
        if model.game_places is None:
            raise ProblemError(404, f"There is no game against this model. {model.no_game}")
        places = model.game_places
        rows = RANDOM.sample(range(len(places)), min(rounds, len(places)))
        game = Game(secrets.token_urlsafe(16), model, places, rows)
        self._games[game.id] = game
        while len(self._games) > self.most:
            self._games.popitem(last=False)
        return game

    def find(self, given: str) -> Game:
        """The game of an id.

        Raises:
            ProblemError: 404, there is none, or it has been forgotten.
        """
        found = self._games.get(given)  # at once, for another thread may forget it
        if found is None:
            raise ProblemError(404, "There is no such game, or it was begun too long ago. Begin a new one.")
        return found
