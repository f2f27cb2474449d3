"""Standing: how far a folder has come, what was skipped and why, what is left to ask for and what that costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from geoguesser.collecting.budget import MICROS, Budget, Spent, spent, spent_by_kind
from geoguesser.collecting.database import Journal
from geoguesser.collecting.providers.base import Provider
from geoguesser.data.place_files import HEADINGS
from geoguesser.system.text import format_count

WORDS = {
    "no_panorama": "the provider has none there",
    "no_four_headings": "no image looks to one of the four headings",
    "no_date": "no date, and filters.from or filters.to is given",
    "too_old": "before filters.from",
    "too_new": "after filters.to",
    "copyright": "filters.copyright_allow, filters.copyright_deny",
    "too_near": "nearer than filters.min_distance_m to another place",
    "in_existing": "its panorama is in filters.existing",
    "same_panorama": "another point had found the panorama",
    "view:no_imagery": "a grey or tiny picture instead of a view",
    "view:not_there": "the provider no longer has the panorama",
    "view:no_full_sphere": "the panorama is no full sphere",
    "answer_too_long": "larger than http.most_mib; a later run asks again",
    "foreign_host": "its thumbnail lies on a host that is not in provider.image_hosts",
}


@dataclass(frozen=True)
class Standing:
    """How far a folder has come.

    Attributes:
        points: State -> how many.
        places: State -> how many.
        views: How many are whole on disk.
        skipped: Why -> how many points or places, for good.
        failed: Why -> how many points or places, which the next run asks for again.
    """

    points: Counter[str]
    places: Counter[str]
    views: int
    skipped: Counter[str]
    failed: Counter[str]


def standing(journal: Journal) -> Standing:
    """Counts what the journal says."""
    by = "SELECT state, why, count(*) FROM {} GROUP BY state, why"
    points, places, skipped, failed = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for table, states in (("points", points), ("places", places)):
        for state, why, count in journal.rows(by.format(table)):
            states[state] += count
            if state in ("empty", "dropped"):
                skipped[why] += count
            elif state == "failed":
                failed[why] += count
    if same := points["found"] - sum(places.values()):
        skipped["same_panorama"] += same
    (views,) = journal.rows("SELECT count(*) FROM views")[0]
    return Standing(points, places, views, skipped, failed)


def lines_of(found: Standing) -> list[str]:
    """What is shown after a step."""
    open_points = found.points["planned"] + found.points["failed"]
    open_places = found.places["wanted"] + found.places["failed"] + found.places["found"]
    lines = [
        f"points: {sum(found.points.values()):,} planned, {sum(found.points.values()) - open_points:,} answered, "
        f"{open_points:,} to ask for",
        f"places: {sum(found.places.values()):,} found, {found.places['done']:,} done, "
        f"{open_places:,} to download; {format_count(found.views, 'view')} on disk",
    ]
    for word, counts in (("skipped", found.skipped), ("failed for now", found.failed)):
        for why, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            told = WORDS.get(why, "" if word == "skipped" else "a later run asks again")
            lines.append(f"{word}: {count:,} {why.removeprefix('view:')}{f' ({told})' if told else ''}")
    return lines


def due(journal: Journal, provider: Provider, *, points: bool, places: bool) -> dict[str, int]:
    """Kind -> requests that are still to be sent, where every attempt works and every point finds a place.

    Args:
        journal: Of the folder.
        provider: Who is asked.
        points: Count what the points take.
        places: Count what the views of places take, those that points may still find too.
    """
    requests: Counter[str] = Counter()
    (asks,) = journal.rows("SELECT count(*) FROM points WHERE state IN ('planned', 'failed')")[0]
    if points:
        requests.update({kind: asks * each for kind, each in provider.per_point.items()})
    if places:
        views = len(HEADINGS)
        (left, begun) = journal.rows(
            "SELECT count(*), total(have) FROM (SELECT "
            "(SELECT count(*) FROM views WHERE place = places.id) AS have "
            "FROM places WHERE provider = ? AND state IN ('found', 'wanted', 'failed'))", provider.name,
        )[0]  # fmt: skip
        open_views = (left + (asks if points else 0)) * views - int(begun)
        requests.update({kind: -(-open_views * each // views) for kind, each in provider.per_place.items()})
    return {kind: count for kind, count in requests.items() if count}


def prices_of(provider: Provider) -> dict[str, float]:
    """Kind -> price per 1,000 requests."""
    return {name: kind.micros * 1000 / MICROS for name, kind in provider.kinds.items()}


def budget_lines(journal: Journal, provider: Provider, budget: Budget) -> list[str]:
    """What was spent, and what the budget leaves."""
    so_far = spent(journal.db, provider.name)
    by_kind = ", ".join(
        f"{count:,} {kind}" for kind, (count, _) in spent_by_kind(journal.db, provider.name).items()
    )
    return [
        f"spent: {format_count(so_far.requests, 'request')} ({by_kind or 'none'}), "
        f"{so_far.micros / MICROS:,.2f} USD",
        f"budget left: {_left(so_far, budget)}",
    ]


def _left(so_far: Spent, budget: Budget) -> str:
    parts = []
    for limit, used, what in (
        (budget.requests, so_far.requests, "requests"),
        (budget.requests_per_day, so_far.requests_today, "requests today"),
    ):
        if limit is not None:
            parts.append(f"{max(0, limit - used):,} {what}")
    for limit, used, what in (
        (budget.micros, so_far.micros, "USD"),
        (budget.micros_per_day, so_far.micros_today, "USD today"),
    ):
        if limit is not None:
            parts.append(f"{max(0, limit - used) / MICROS:,.2f} {what}")
    return ", ".join(parts) or "no limit"


def passes(journal: Journal, provider: Provider, budget: Budget, requests: dict[str, int]) -> str:
    """Which budget these requests would pass in all, as `budget.KEY=VALUE`; empty where none."""
    so_far = spent(journal.db, provider.name)
    count = sum(requests.values())
    micros = sum(provider.kinds[kind].micros * number for kind, number in requests.items())
    for key, limit, then, unit in (
        ("requests", budget.requests, so_far.requests + count, 1),
        ("money", budget.micros, so_far.micros + micros, MICROS),
        ("requests_per_day", budget.requests_per_day, so_far.requests_today + count, 1),
        ("money_per_day", budget.micros_per_day, so_far.micros_today + micros, MICROS),
    ):
        if limit is not None and then > limit and not (unit == MICROS and not micros):
            return f"budget.{key}={limit / unit:.15g}"
    return ""
