"""Parsing of Mapillary's responses: images of a search, address of a thumbnail, panorama."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from geoguesser.arrays import ByteArray
from geoguesser.collecting.providers.base import Panorama
from geoguesser.collecting.providers.http_responses import HttpResponse, NotFoundError, RetryableError
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.data.place_files import HEADINGS
from geoguesser.geo.distance import geodesic_m


def parse_search(response: HttpResponse, *, point: tuple[float, float], radius_m: float) -> list[Panorama]:
    """Parses the images of a search around a point, given by latitude and longitude.

    Returns images within the radius that have a position and a compass angle, sorted by distance.

    Raises NotFoundError if there is no such image, RetryableError if the response is malformed.
    """
    try:
        parsed = [_parse_image(image) for image in json.loads(response.body)["data"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, OSError):
        raise RetryableError("broken_answer") from None

    images = [image for image in parsed if image is not None]
    distances_m = geodesic_m(point, [(image.latitude, image.longitude) for image in images])
    # Images at the same distance are sorted by id, so that the result does not depend on the order of the
    # response.
    ranked = sorted(zip(distances_m, images, strict=True), key=lambda pair: (pair[0], pair[1].panorama_id))
    nearby = [image for distance_m, image in ranked if distance_m <= radius_m]
    if not nearby:
        raise NotFoundError("no_panorama")
    return nearby


def _parse_image(image: dict[str, Any]) -> Panorama | None:
    """Parses one image of a search; None if it has no position or no compass angle."""
    # Values that Mapillary computed from several images are preferred to those of the camera.
    geometry = image.get("computed_geometry") or image.get("geometry")
    compass = image.get("computed_compass_angle")
    compass = image.get("compass_angle") if compass is None else compass
    if geometry is None or compass is None:
        return None

    longitude, latitude = (float(value) for value in geometry["coordinates"][:2])
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and math.isfinite(float(compass))):
        return None

    date = ""
    if image.get("captured_at") is not None:
        date = datetime.fromtimestamp(float(image["captured_at"]) / 1000.0, UTC).strftime("%Y-%m")
    creator = (image.get("creator") or {}).get("username", "")
    copyright_notice = f"{creator} on Mapillary, CC BY-SA 4.0" if creator else "Mapillary, CC BY-SA 4.0"
    extra = {"compass_deg": float(compass) % 360.0}
    return Panorama(str(image["id"]), latitude, longitude, date, copyright_notice, extra)


def select_flat_images(images: list[Panorama], *, spread_m: float, tolerance_deg: float) -> Panorama:
    """Combines four flat images, one per heading, to one panorama at the position of the first image.

    Images are sorted by distance from the point. Those within `spread_m` of the first one are candidates; for each
    heading, `extra` of the result holds the id of the one with the nearest compass angle. Raises NotFoundError if
    none deviates by at most `tolerance_deg`.
    """
    first = images[0]
    distances_m = geodesic_m((first.latitude, first.longitude), [(it.latitude, it.longitude) for it in images])
    candidates = [image for image, distance_m in zip(images, distances_m, strict=True) if distance_m <= spread_m]

    id_by_heading = {}
    for heading in HEADINGS:
        deviations_deg = [_compute_angle_deg(image.extra["compass_deg"], heading) for image in candidates]
        best = min(range(len(candidates)), key=deviations_deg.__getitem__)
        if deviations_deg[best] > tolerance_deg:
            raise NotFoundError("no_four_headings")
        id_by_heading[str(heading)] = candidates[best].panorama_id

    used = id_by_heading.values()
    owners = sorted({image.copyright for image in candidates if image.panorama_id in used})
    return replace(first, panorama_id="+".join(used), copyright="; ".join(owners), extra={"images": id_by_heading})


def _compute_angle_deg(a_deg: float, b_deg: float) -> float:
    return abs((a_deg - b_deg + 180.0) % 360.0 - 180.0)


def parse_thumbnail_url(response: HttpResponse, *, field: str) -> str:
    """Parses the address of a thumbnail.

    Raises NotFoundError if the image has none, RetryableError if the response is malformed.
    """
    try:
        url = json.loads(response.body).get(field)
    except (ValueError, AttributeError):
        raise RetryableError("broken_answer") from None
    if not url:
        raise NotFoundError("no_imagery")
    return str(url)


def decode_panorama(response: HttpResponse) -> ByteArray:
    """Decodes a panorama to an (H, W, 3) RGB array; raises RetryableError if the image is incomplete."""
    try:
        header = read_header(response.body)
        return decode_rgb(response.body, header, header.height)
    except ValueError:
        raise RetryableError("broken_image") from None
