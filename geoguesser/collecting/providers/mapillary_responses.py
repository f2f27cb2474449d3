"""Mapillary's answers: which images a search found, the address of a thumbnail, a panorama. Pure; asks nobody."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyproj

from geoguesser.arrays import ByteArray
from geoguesser.collecting.providers.base import Panorama
from geoguesser.collecting.providers.http_responses import AbsentError, AgainError, Reply
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.data.place_files import HEADINGS

WGS84 = pyproj.Geod(ellps="WGS84")


def read_search(reply: Reply, *, point: tuple[float, float], radius_m: float) -> list[Panorama]:
    """The images of a search's answer that lie within the radius and have a compass angle, the nearest first.

    Raises:
        AbsentError: There is none.
        AgainError: The answer makes no sense.
    """
    try:
        images = [_panorama(image) for image in json.loads(reply.body)["data"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, OSError):
        raise AgainError("broken_answer") from None
    known = [image for image in images if image is not None]
    far = _metres(point, [(image.latitude, image.longitude) for image in known])
    near = sorted(
        ((m, image.panorama_id, image) for m, image in zip(far, known, strict=True) if m <= radius_m),
        key=lambda one: one[:2],
    )
    if not near:
        raise AbsentError("no_panorama")
    return [image for _, _, image in near]


def _panorama(image: dict[str, Any]) -> Panorama | None:
    """One image; what Mapillary computed from many images comes before what the camera said."""
    place = image.get("computed_geometry") or image.get("geometry")
    compass = image.get("computed_compass_angle")
    compass = image.get("compass_angle") if compass is None else compass
    if place is None or compass is None:
        return None
    longitude, latitude = (float(value) for value in place["coordinates"][:2])
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and math.isfinite(float(compass))):
        return None
    date = ""
    if image.get("captured_at") is not None:
        date = datetime.fromtimestamp(float(image["captured_at"]) / 1000.0, UTC).strftime("%Y-%m")
    who = (image.get("creator") or {}).get("username", "")
    owner = f"{who} on Mapillary, CC BY-SA 4.0" if who else "Mapillary, CC BY-SA 4.0"
    extra = {"compass_deg": float(compass) % 360.0}
    return Panorama(str(image["id"]), latitude, longitude, date, owner, extra)


def choose_flat(near: list[Panorama], *, spread_m: float, tolerance_deg: float) -> Panorama:
    """Four flat images that look to the four headings, as one panorama at the first one's position.

    The nearest image is the first; for each heading the one that looks nearest to it is taken, among those within
    `spread_m` of the first.

    Raises:
        AbsentError: A heading has none.
    """
    first = near[0]
    apart = _metres((first.latitude, first.longitude), [(image.latitude, image.longitude) for image in near])
    around = [image for image, metres in zip(near, apart, strict=True) if metres <= spread_m]
    chosen = {}
    for heading in HEADINGS:
        off, best = min(
            ((_apart_deg(image.extra["compass_deg"], heading), number) for number, image in enumerate(around))
        )
        if off > tolerance_deg:
            raise AbsentError("no_four_headings")
        chosen[str(heading)] = around[best].panorama_id
    owners = sorted({image.copyright for image in around if image.panorama_id in chosen.values()})
    return replace(
        first, panorama_id="+".join(chosen.values()), copyright="; ".join(owners), extra={"images": chosen}
    )


def _apart_deg(a: float, b: float) -> float:
    return abs((a - b + 180.0) % 360.0 - 180.0)


def _metres(point: tuple[float, float], others: list[tuple[float, float]]) -> list[float]:
    if not others:
        return []
    latitudes, longitudes = zip(*others, strict=True)
    _, _, metres = WGS84.inv([point[1]] * len(others), [point[0]] * len(others), longitudes, latitudes)
    return [float(one) for one in metres]


def read_address(reply: Reply, *, field: str) -> str:
    """The address of a thumbnail.

    Raises:
        AbsentError: The image has none.
        AgainError: The answer makes no sense.
    """
    try:
        address = json.loads(reply.body).get(field)
    except (ValueError, AttributeError):
        raise AgainError("broken_answer") from None
    if not address:
        raise AbsentError("no_imagery")
    return str(address)


def read_panorama(reply: Reply) -> ByteArray:
    """(H, W, 3) RGB.

    Raises:
        AgainError: It is not whole.
    """
    try:
        header = read_header(reply.body)
        whole = decode_rgb(reply.body, header, header.height)
    except ValueError:
        raise AgainError("broken_image") from None
    return whole
