"""Status of a collection: progress, skipped items by reason, remaining requests and their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from geoguesser.collecting.budget import MICROS_PER_USD, Budget, read_spending, read_spending_by_kind
from geoguesser.collecting.database import Database
from geoguesser.collecting.providers.base import Provider
from geoguesser.collecting.providers.http_settings import RequestKind
from geoguesser.data.place_files import HEADINGS
from geoguesser.system.text import format_count

REASON_TEXTS = {
    "no_panorama": "the provider has none there",
    "no_four_headings": "a heading has no image",
    "no_date": "no date, and filters.from or filters.to is given",
    "too_old": "before filters.from",
    "too_new": "after filters.to",
    "copyright": "filters.copyright_allow, filters.copyright_deny",
    "too_near": "nearer than filters.min_distance_m to another place",
    "in_existing": "its panorama is in filters.existing",
    "same_panorama": "found by another point too",
    "view:no_imagery": "a grey or tiny picture instead of a view",
    "view:not_there": "the provider no longer has the panorama",
    "view:no_full_sphere": "the panorama is not a full sphere",
    "answer_too_long": "larger than http.max_response_mib; the next run requests it again",
    "foreign_host": "its thumbnail is on a host that is not in provider.image_hosts",
}


def format_status(database: Database) -> list[str]:
    """Counts points, places and views in the database, and formats the counts as lines for the log."""
    points, places, skipped, failed = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for table, states in (("points", points), ("places", places)):
        rows = database.query(f"SELECT state, why, count(*) FROM {table} GROUP BY state, why")
        for state, reason, count in rows:
            states[state] += count
            if state in ("empty", "dropped"):
                skipped[reason] += count
            elif state == "failed":
                failed[reason] += count

    # Points that found the panorama of another point have no place of their own.
    if shared := points["found"] - places.total():
        skipped["same_panorama"] += shared
    (views,) = database.query("SELECT count(*) FROM views")[0]
    open_points = points["planned"] + points["failed"]
    open_places = places["wanted"] + places["failed"] + places["found"]
    lines = [
        f"points: {points.total():,} planned, {points.total() - open_points:,} answered, {open_points:,} left",
        f"places: {places.total():,} found, {places['done']:,} done, {open_places:,} to download; "
        f"{format_count(views, 'view')} on disk",
    ]

    for label, counts, default in (
        ("skipped", skipped, ""),
        ("failed for now", failed, "the next run requests it again"),
    ):
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            text = REASON_TEXTS.get(reason, default)
            lines.append(f"{label}: {count:,} {reason.removeprefix('view:')}{f' ({text})' if text else ''}")
    return lines


def count_remaining_requests(
    database: Database, provider: Provider, *, points: bool, places: bool
) -> dict[str, int]:
    """Counts the requests by kind that remain if no attempt fails and every point finds a place.

    Requests for points and for views of places are included if `points` and `places` are true. If both are, there
    are also requests for views of the places yet to be found.
    """
    requests: Counter[str] = Counter()
    (open_points,) = database.query("SELECT count(*) FROM points WHERE state IN ('planned', 'failed')")[0]
    if points:
        requests.update({kind: open_points * number for kind, number in provider.requests_per_point.items()})

    if places:
        (open_places, recorded_views) = database.query(
            "SELECT count(*), total(recorded) FROM (SELECT "
            "(SELECT count(*) FROM views WHERE place = places.id) AS recorded "
            "FROM places WHERE provider = ? AND state IN ('found', 'wanted', 'failed'))", provider.name,
        )[0]  # fmt: skip
        expected_places = open_places + (open_points if points else 0)
        views = expected_places * len(HEADINGS) - int(recorded_views)
        # A place's requests are shared out among its views, and the total is rounded up.
        requests.update(
            {kind: -(-views * number // len(HEADINGS)) for kind, number in provider.requests_per_place.items()}
        )
    return {kind: count for kind, count in requests.items() if count}


def format_cost(requests: Mapping[str, int], kinds: Mapping[str, RequestKind]) -> list[str]:
    """Formats numbers of requests by kind, and their prices in US dollars, as the lines of a table."""
    rows = [("kind", "requests", "USD per 1,000", "USD")]
    total_usd = 0.0
    for kind, count in requests.items():
        usd = count * kinds[kind].micros / MICROS_PER_USD
        total_usd += usd
        rows.append((kind, f"{count:,}", f"{kinds[kind].micros * 1000 / MICROS_PER_USD:g}", _format_usd(usd)))
    rows.append(("total", f"{sum(requests.values()):,}", "", _format_usd(total_usd)))

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _format_usd(usd: float) -> str:
    # An amount below one cent is not shown as 0.00.
    return "< 0.01" if 0 < usd < 0.01 else f"{usd:,.2f}"


def format_budget(database: Database, provider: Provider, budget: Budget) -> list[str]:
    """Formats the spending so far and the remaining budget as lines for the log."""
    spending = read_spending(database.connection, provider.name)
    counts = read_spending_by_kind(database.connection, provider.name)
    by_kind = ", ".join(f"{count:,} {kind}" for kind, (count, _) in counts.items())

    remaining = [
        f"{max(0, limit - used) / scale:,.{decimals}f} {unit}"
        for limit, used, scale, decimals, unit in (
            (budget.requests, spending.requests, 1, 0, "requests"),
            (budget.requests_per_day, spending.requests_today, 1, 0, "requests today"),
            (budget.micros, spending.micros, MICROS_PER_USD, 2, "USD"),
            (budget.micros_per_day, spending.micros_today, MICROS_PER_USD, 2, "USD today"),
        )
        if limit is not None
    ]
    return [
        f"spent: {format_count(spending.requests, 'request')} ({by_kind or 'none'}), "
        f"{spending.micros / MICROS_PER_USD:,.2f} USD",
        f"budget left: {', '.join(remaining) or 'no limit'}",
    ]


def find_exceeded_budget(database: Database, provider: Provider, budget: Budget, requests: dict[str, int]) -> str:
    """Returns the limit that these requests would exceed as `budget.KEY=VALUE`; an empty string if none."""
    return budget.find_excess(
        read_spending(database.connection, provider.name),
        requests=sum(requests.values()),
        micros=sum(provider.request_kinds[kind].micros * number for kind, number in requests.items()),
    )
