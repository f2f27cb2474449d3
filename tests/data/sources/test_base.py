"""Sources: the record of a run's data, from its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import compose

from geoguesser.commands.configs import resolve_run_config
from geoguesser.data.demo.dataset import get_demo_folder
from geoguesser.data.sources.base import DEMO, PLACES, STORE, SourceKind, source_from_config
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.runs.config_keys import redact_config

SCANS = SourceKind(
    name="scans",
    description="Scans of postcards",
    label="postcards",
    folder_keys=("scans",),
    find_folders=lambda data: [Path(data["scans"])],
)


class ScansDataModule(PlacesDataModule):
    """Data source of a user."""

    source = SCANS


class StoreDataModule(ScansDataModule):
    """Data source of a user with the name of a built-in one."""


OWN = {"_target_": f"{__name__}.ScansDataModule", "scans": "scans/of/ann", "batch_size": 8}


@pytest.mark.parametrize(
    ("words", "kind", "folders"),
    [
        (["data=demo", "data.places=30", "data.px=32"], DEMO, [get_demo_folder(places=30, seed=0, px=32)]),
        (["data=places", "data.roots=[a,b]"], PLACES, [Path("a"), Path("b")]),
        (["data=places", "data.roots='~/c'"], PLACES, [Path.home() / "c"]),
        (["data=store", "data.path=d"], STORE, [Path("d")]),
    ],
)
def test_each_choice_records_its_kind_and_folders(words: list[str], kind: SourceKind, folders: list[Path]) -> None:
    record = source_from_config(resolve_run_config(compose(words)))
    assert record.kind is kind
    assert record.label == ("synthetic demo" if kind is DEMO else "")
    assert record.folders == tuple(folders)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"_target_": "geoguesser.an.older.module.StoreDataModule", "path": "d"}, STORE),
        ({"_target_": "geoguesser.data.sources.places.PlacesDataModule"}, PLACES),  # a checkpoint keeps no folders
        ({"demo_seed": 3}, DEMO),  # nor every key
        ({"roots": ["a"]}, PLACES),
        ({"path": "d"}, STORE),
        ({}, None),
        ({"_target_": "no.such.Source", "roots": ["a"]}, None),
    ],
)
def test_configs_of_other_versions(data: dict[str, Any], kind: SourceKind | None) -> None:
    assert source_from_config({"data": data}).kind is kind


def test_a_source_of_ones_own_states_what_others_read() -> None:
    record = source_from_config({"data": OWN})
    assert (record.kind, record.label, record.folders) == (SCANS, "postcards", (Path("scans/of/ann"),))
    expected = {"data": {"_target_": OWN["_target_"], "batch_size": 8}, "seed": 0}
    assert redact_config({"data": OWN, "seed": 0}) == expected


def test_a_source_with_the_name_of_a_built_in_one_keeps_its_own_declaration() -> None:
    assert source_from_config({"data": OWN | {"_target_": f"{__name__}.StoreDataModule"}}).kind is SCANS


def test_a_source_whose_module_fails_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "street_source.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert source_from_config({"data": {"_target_": "street_source.Places", "roots": ["a"]}}).kind is None


def test_folders_are_the_values_of_the_folder_keys_by_default() -> None:
    kind = SourceKind(name="two", description="two", folder_keys=("first", "second"))
    folders = kind.list_folders({"first": "~/a", "second": ["b", "c"], "third": "d"})
    assert folders == [Path.home() / "a", Path("b"), Path("c")]
    assert kind.list_folders({"first": None}) == []
