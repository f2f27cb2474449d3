"""Mapillary: parsing of searches, choice of flat images, and directions of the views."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import simplejpeg
from support.collect_config import load_settings
from support.http_clients import use_client
from support.provider_server import TOKEN, ProviderServer

from geoguesser.collecting.providers.base import Panorama
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import (
    HttpResponse,
    NotFoundError,
    RequestFailedError,
    RetryableError,
)
from geoguesser.collecting.providers.mapillary import Mapillary
from geoguesser.collecting.providers.mapillary_responses import parse_search, select_flat_images
from geoguesser.errors import ConfigError, ProviderError

GIVEN = load_settings("provider/mapillary") | {"size": 96}
AT = (45.0, 16.0)


def image(name: str, east_m: float = 0.0, north_m: float = 0.0, **given: Any) -> dict[str, Any]:
    geod = pyproj.Geod(ellps="WGS84")
    lon, lat, _ = geod.fwd(AT[1], AT[0], np.degrees(np.arctan2(east_m, north_m)), np.hypot(east_m, north_m))
    position = {"type": "Point", "coordinates": [lon, lat]}
    return {
        "id": name, "geometry": position, "captured_at": 1_560_000_000_000, "compass_angle": 10.0, **given,
    }  # fmt: skip


def search(images: list[Any], radius_m: float = 50.0) -> list[Panorama]:
    body = json.dumps({"data": images}).encode()
    return parse_search(HttpResponse(200, "application/json", None, body), point=AT, radius_m=radius_m)


def test_the_nearest_comes_first_and_what_is_beyond_the_radius_not_at_all():
    images = search([image("far", 51), image("b", 0, -30), image("a", 20), image("corner", 40, 40)])
    assert [image.panorama_id for image in images] == ["a", "b"]
    assert images[0].date == "2019-06"  # 8 June 2019, 13:20 UTC
    assert images[0].copyright == "Mapillary, CC BY-SA 4.0"
    assert images[0].extra == {"compass_deg": 10.0}
    with pytest.raises(NotFoundError, match="no_panorama"):
        search([image("far", 51)])
    with pytest.raises(NotFoundError, match="no_panorama"):
        search([])


def test_what_was_computed_comes_before_what_the_camera_said():
    computed = {"type": "Point", "coordinates": [16.0002, 45.0002]}
    given = {"computed_geometry": computed, "computed_compass_angle": -5.0, "creator": {"username": "ana"}}
    (panorama,) = search([image("a", **given)])
    assert (panorama.latitude, panorama.longitude) == (45.0002, 16.0002)
    assert panorama.extra == {"compass_deg": 355.0}
    assert panorama.copyright == "ana on Mapillary, CC BY-SA 4.0"


@pytest.mark.parametrize("missing", ["geometry", "compass_angle"])
def test_an_image_without_position_or_direction_is_not_used(missing: str):
    with pytest.raises(NotFoundError, match="no_panorama"):
        search([image("a", **{missing: None})])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"data": [1]}',
        b'{"data": [{"id": 1, "geometry": {"coordinates": [16, 45]}, "compass_angle": 1, "captured_at": 1e99}]}',
    ],
)
def test_an_answer_without_sense_is_asked_for_again(body: bytes):
    with pytest.raises(RetryableError, match="broken_answer"):
        parse_search(HttpResponse(200, "application/json", None, body), point=AT, radius_m=50.0)


def test_four_flat_images_by_their_compass_angles():
    angles = {"n": 352, "n2": 20, "e": 95, "s": 170, "w": 280, "far": 270}
    near = search([image(name, 30 if name == "far" else 1 + n, compass_angle=a)
                   for n, (name, a) in enumerate(angles.items())])  # fmt: skip
    panorama = select_flat_images(near, spread_m=15.0, tolerance_deg=30.0)
    # Across north, and not the far one.
    assert panorama.extra["images"] == {"0": "n", "90": "e", "180": "s", "270": "w"}
    assert panorama.panorama_id == "n+e+s+w"
    assert (panorama.latitude, panorama.longitude) == (near[0].latitude, near[0].longitude)
    with pytest.raises(NotFoundError, match="no_four_headings"):
        select_flat_images(near, spread_m=15.0, tolerance_deg=9.0)


def find_and_fetch(folder: Path, server: ProviderServer, **given: Any) -> Any:
    """Finds the panorama near a point and fetches its views. Returns both, or the error."""
    provider = Mapillary(**{**GIVEN, "base_url": server.mapillary, "image_hosts": ["127.0.0.1"], **given})
    provider.load_credentials()

    async def fetch(client: HttpClient) -> Any:
        panorama = await provider.find_panorama(client, 45.1, 16.2)
        return panorama, [view async for view in provider.fetch_views(client, panorama, (0, 90, 180, 270))]

    http = {"max_response_mib": 1, "timeout_s": 5, "max_attempts": 8}
    return use_client(folder, fetch, kinds=provider.request_kinds, name="mapillary", **http)[0]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPILLARY_TOKEN", TOKEN)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("seed", range(3))
def test_views_cut_from_a_panorama_look_to_their_headings(seed: int, tmp_path: Path):
    """The server paints red to the north, green to the east, blue to the south, grey to the west."""
    with ProviderServer(seed=seed, empty_share=0.0, fault_share=0.2, retry_after_s=0, slow_s=0.1) as server:
        panorama, views = find_and_fetch(tmp_path, server)
    assert panorama.panorama_id == server.panorama(45.1, 16.2, 50)[0]
    assert [heading for heading, _ in views] == [0, 90, 180, 270]
    for (_, data), colour in zip(
        views, [(220, 30, 30), (30, 220, 30), (30, 30, 220), (230, 230, 230)], strict=True
    ):
        image = simplejpeg.decode_jpeg(data).astype(float)
        assert image.shape == (96, 96, 3)
        assert image[10:40, 20:76].mean(axis=(0, 1)) == pytest.approx(colour, abs=12)
    assert not [entry for entry in server.log if entry.outcome == "sent a token"]
    assert server.counts()["thumbnail"] >= 1


@pytest.mark.usefixtures("token")
def test_flat_images_come_as_they_are(tmp_path: Path):
    with ProviderServer(empty_share=0.0) as server:
        panorama, views = find_and_fetch(tmp_path, server, views="flat")
        name = server.panorama(45.1, 16.2, 50)[0]
    assert panorama.panorama_id == "+".join(f"{name}f{turn}" for turn in (0, 90, 180, 270))
    assert [data[:60].count(f"{name}f{heading}".encode()) for heading, data in views] == [1] * 4


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://another.host/a", "foreign_host"),
        *[(url, "foreign_host") for url in ("https://[", "https://127.0.0.1:port/a", "ftp://127.0.0.1/a", "a")],
        ("{server}thumbs/x?oh=expired", "http_403"),
    ],
)
def test_a_bad_address_of_a_thumbnail_fails_only_its_place(address: str, reason: str, tmp_path: Path, monkeypatch):
    with ProviderServer(empty_share=0.0) as server:
        url = address.replace("{server}", server.mapillary.removesuffix("graph"))
        parser = "geoguesser.collecting.providers.mapillary.parse_thumbnail_url"
        monkeypatch.setattr(parser, lambda reply, field: url)
        error = find_and_fetch(tmp_path, server)
    assert isinstance(error, RequestFailedError)
    assert str(error) == reason


def test_a_wrong_token_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAPILLARY_TOKEN", "MLY|1|another-token")
    with ProviderServer() as server:
        error = find_and_fetch(tmp_path, server)
    assert isinstance(error, ProviderError)
    assert re.match(r"mapillary refuses the key .* \(HTTP 401\)", str(error))
    assert "another-token" not in str(error)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_hosts", [], r"^provider\.image_hosts must be a list of hosts"),
        ("views", "both", r"^provider\.views must be one of panorama, flat"),
        ("thumbnail", 1024, r"^provider\.thumbnail must be one of original, 2048"),
        ("radius_m", 2000, r"^provider\.radius_m must be"),
    ],
)
def test_bad_values_are_refused(key: str, value: object, message: str):
    with pytest.raises(ConfigError, match=message):
        Mapillary(**{**GIVEN, key: value})
