"""Redaction of configs that leave the machine."""

from __future__ import annotations

import pytest

from geoguesser.runs.config_keys import has_path, is_private, redact_config, remove_secrets


def test_redaction_drops_paths_and_secrets_at_every_depth() -> None:
    config = {
        "seed": 3,
        "data": {"roots": ["/home/ann/places"], "batch_size": 32, "note": "/home/ann/x", "more": ["~/y", "z", 1]},
        "region": {"boundary": "mine.geojson", "code": "HRV"},
        "backbone": {"name": "resnet18", "weights": "w.pth"},
        "resume": "outputs/1",
        "init_from": None,
        "logger": {"project": "p", "entity": "ann"},
        "hydra": {"run": 1},
        "api_key": "abc",
        "nested": [
            {"Token": "abc", "kept": True},
            ("/tmp/a", {"MY_PASSWORD": 1, "credentials": 2, "clientSecret": 3}),
        ],
        "none": None,
    }
    assert redact_config(config) == {
        "seed": 3,
        "data": {"batch_size": 32, "note": "(a path)", "more": ["(a path)", "z", 1]},
        "region": {"code": "HRV"},
        "backbone": {"name": "resnet18"},
        "nested": [{"kept": True}, ["(a path)", {}]],
        "none": None,
    }

    # The config itself is unchanged.
    assert config["api_key"] == "abc"


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        *(("/home/ann", True), ("~/x", True), ("file:///home/x", True), ("see /home/x", True), ("x=/tmp/a", True)),
        *(("C:\\Users\\ann", True), ("[a,/b]", True), ("'/b'", True)),
        *(("https://x.y/z", False), ("hf-hub:timm/x", False), ("a/b", False), ("EPSG:3765", False)),
        *(("tf_efficientnet_lite0.in1k", False), ("25 / 3", False), ("", False), ("val/error_km_mean", False)),
    ],
)
def test_paths_are_recognised_in_texts(text: str, is_path: bool) -> None:
    assert has_path(text) is is_path


def test_any_part_of_a_key_makes_it_private() -> None:
    assert is_private("data.roots")
    assert is_private("logger.entity")
    assert is_private("x.api_key")
    assert not is_private("grid.size")
    assert not is_private("data.rootsy")


def test_config_yaml_has_paths_but_no_secrets() -> None:
    config = {"data": {"roots": ["/a"], "api_key": "abc"}, "token": "t", "seed": 1}
    expected = {"data": {"roots": ["/a"], "api_key": "(secret)"}, "token": "(secret)", "seed": 1}
    assert remove_secrets(config) == expected
