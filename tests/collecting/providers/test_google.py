"""Google: URL signature of the documented example, and the parsing of responses."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import simplejpeg
from support.collect_config import load_settings
from support.provider_server import SECRET, make_grey_jpeg, make_noise_jpeg

from geoguesser.collecting.providers.google import Google, parse_metadata, parse_view, sign_url
from geoguesser.collecting.providers.http_responses import (
    HttpResponse,
    NotFoundError,
    RequestFailedError,
    RetryableError,
)
from geoguesser.errors import ConfigError, ProviderError

GIVEN = load_settings("provider/google") | {"accept_terms": True}
OK = {
    "status": "OK",
    "pano_id": "tu510ie_z4ptBZYo2BGEJg",
    "location": {"lat": 48.857832, "lng": 2.295226},
    "date": "2023-05",
    "copyright": "© Google",
}


def make_response(body: object, wait: float | None = None) -> HttpResponse:
    return HttpResponse(200, "application/json", wait, json.dumps(body).encode())


def test_the_signature_is_that_of_the_documented_example():
    """From developers.google.com, "Digital Signature Guide", sample with the private key given there."""
    secret = base64.urlsafe_b64decode("vNIXE0xscrmjlyV-12Nj_BvUPaw=")
    url = "https://maps.googleapis.com/maps/api/geocode/json?address=New+York&client=clientID"
    assert sign_url(url, secret) == "chaRF2hTJKOScPr-RQCEhZbSzIE="


def test_ok_gives_the_panorama_where_it_was_taken():
    panorama = parse_metadata(make_response(OK))
    assert panorama.panorama_id == "tu510ie_z4ptBZYo2BGEJg"
    assert (panorama.latitude, panorama.longitude) == (48.857832, 2.295226)
    assert (panorama.date, panorama.copyright) == ("2023-05", "© Google")
    bare = parse_metadata(make_response({key: OK[key] for key in ("status", "pano_id", "location")}))
    assert (bare.date, bare.copyright) == ("", "")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        ("ZERO_RESULTS", NotFoundError, "no_panorama"),
        ("NOT_FOUND", NotFoundError, "no_panorama"),
        ("INVALID_REQUEST", RequestFailedError, "invalid_request"),
        ("OVER_QUERY_LIMIT", RetryableError, "over_query_limit"),
        ("UNKNOWN_ERROR", RetryableError, "unknown_error"),
        ("NEVER_HEARD_OF", RetryableError, "unknown_error"),
        ("REQUEST_DENIED", ProviderError, "REQUEST_DENIED"),
    ],
)
def test_each_status(status: str, error: type[Exception], kind: str):
    with pytest.raises(error, match=kind) as caught:
        parse_metadata(make_response({"status": status, "error_message": "with THE-KEY in it"}, 7.0))
    assert "THE-KEY" not in str(caught.value)
    if status == "OVER_QUERY_LIMIT":
        assert caught.value.wait_s == 7.0


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {**OK, "location": {"lat": "x", "lng": 1}},
        {**OK, "pano_id": ""},
        {**OK, "location": {"lat": 91, "lng": 1}},
        {**OK, "location": {"lat": 1, "lng": float("nan")}},
    ],
)  # fmt: skip
def test_an_answer_without_sense_is_asked_for_again(body: object):
    with pytest.raises(RetryableError, match="broken_answer"):
        parse_metadata(make_response(body))


def test_a_view_is_whole_and_shows_something():
    view = make_noise_jpeg("a")
    assert parse_view(HttpResponse(200, "image/jpeg", None, view)) == view
    for body in (view[: len(view) // 2], view[:-2], b"", b"<html>", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(RetryableError, match="broken_image"):
            parse_view(HttpResponse(200, "image/jpeg", None, body))
    tiny = simplejpeg.encode_jpeg(np.zeros((1, 1, 3), dtype=np.uint8))
    for body in (make_grey_jpeg(640), tiny):
        with pytest.raises(NotFoundError, match="no_imagery"):
            parse_view(HttpResponse(200, "image/jpeg", None, body))


def test_terms_must_be_accepted_before_a_key_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GOOGLE_MAPS_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"forbid to download images in bulk.*provider\.accept_terms=true$"):
        Google(**{**GIVEN, "accept_terms": False}).load_credentials()
    with pytest.raises(ConfigError, match=r"provider\.key is missing"):
        Google(**GIVEN).load_credentials()


def test_a_bad_secret_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_MAPS_API_KEY", "k" * 20)
    monkeypatch.setenv("GOOGLE_MAPS_SIGNING_SECRET", "not/base64!!")
    with pytest.raises(ConfigError, match=r"^provider\.secret must be the signing secret") as error:
        Google(**GIVEN).load_credentials()
    assert "not/base64" not in str(error.value)
    monkeypatch.setenv("GOOGLE_MAPS_SIGNING_SECRET", SECRET)
    assert Google(**GIVEN).load_credentials() == ["k" * 20, SECRET]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base_url", "http://maps.googleapis.com/x", r"^provider\.base_url must be an address https://HOST/PATH"),
        ("base_url", "https://user:secret@host/x", r"^provider\.base_url must be an address"),
        ("size", 641, r"^provider\.size must be an integer from 16 to 640"),
        ("fov_deg", 130, r"^provider\.fov_deg must be"),
        ("source", "indoor", r"^provider\.source must be one of outdoor, default"),
        ("accept_terms", "yes", r"^provider\.accept_terms must be true or false"),
        ("requests", {"metadata": {}, "image": {}}, r"^provider\.requests\.metadata must have the keys"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(key: str, value: object, message: str):
    with pytest.raises(ConfigError, match=message) as error:
        Google(**{**GIVEN, key: value})
    assert "secret" not in str(error.value)
