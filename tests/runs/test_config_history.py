"""Configs of earlier versions mean the same under the current names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from conftest import compose
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from geoguesser.commands.configs import resolve_run_config
from geoguesser.commands.recorded_config import list_current_targets, read_config
from geoguesser.runs import config_history
from geoguesser.runs.config_history import (
    ADDED_KEYS,
    OLD_TARGETS,
    RENAMED_KEYS,
    normalise_config,
    shorten_target,
    update_config,
    update_override,
)
from geoguesser.sweeps.job_name import find_job, make_job_name, register_resolver

KEYS = st.sampled_from(["grid", "cells", "size", "_target_", "head", "seed", "point"])
TARGETS = st.sampled_from(
    ["geoguesser.old.Cells", "geoguesser.geo.Squares", "geoguesser.a.Head.fit", "torch.Adam"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | TARGETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def later(monkeypatch) -> None:
    """Changes the history to that of a later version: a class, a key and a group are renamed, and a key is new."""
    monkeypatch.setattr(config_history, "OLD_TARGETS", {"geoguesser.old.Cells": "geoguesser.geo.Squares"})
    monkeypatch.setattr(config_history, "RENAMED_KEYS", {"cells": "grid", "cells.count": "grid.size"})
    monkeypatch.setattr(config_history, "ADDED_KEYS", {"grid.point": "centre", "extensions": []})


@pytest.mark.parametrize(
    ("target", "short"),
    [
        ("geoguesser.geo.region.country", "country"),
        ("geoguesser.model.head.ClassificationHead.fit", "ClassificationHead.fit"),
        ("geoguesser.geo.grid.SquareGrid", "SquareGrid"),
        ("geoguesser.old.Cells", "Squares"),
        ("geoguesser.anywhere.Cells", "Squares"),
        ("pytorch_lightning.Trainer", "pytorch_lightning.Trainer"),
        ("theirs.SquareGrid", "theirs.SquareGrid"),
    ],
)
@pytest.mark.usefixtures("later")
def test_targets_of_this_package_are_shortened_to_their_current_name(target: str, short: str):
    assert shorten_target(target) == short
    assert shorten_target(short) == short


@pytest.mark.usefixtures("later")
def test_configs_that_mean_the_same_are_normalised_to_the_same():
    old = {"cells": {"_target_": "geoguesser.old.Cells", "count": 5.0}, "seed": 0, "list": [1.0, False, math.inf]}
    new = {
        "grid": {"_target_": "geoguesser.geo.Squares", "size": 5, "point": "centre"},
        "seed": 0,
        "list": [1, False, math.inf],
        "extensions": [],
    }
    expected = {"grid": {"_target_": "Squares", "size": 5}, "seed": 0, "list": [1, False, math.inf]}
    assert normalise_config(old) == normalise_config(new) == expected
    assert [type(value) for value in normalise_config(old)["list"]] == [int, bool, float]

    # Configs are not changed in place.
    assert old["cells"] == {"_target_": "geoguesser.old.Cells", "count": 5.0}


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "change", [{"size": 6}, {"size": 5.5}, {"point": "weighted"}, {"_target_": "theirs.Squares"}, {"more": None}]
)
def test_configs_that_mean_something_else_stay_apart(change):
    grid = {"_target_": "geoguesser.geo.Squares", "size": 5}
    assert normalise_config({"grid": grid}) != normalise_config({"grid": grid | change})


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_normalising_twice_changes_nothing(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_history, "OLD_TARGETS", {"geoguesser.old.Cells": "geoguesser.geo.Squares"})
        patch.setattr(config_history, "RENAMED_KEYS", {"cells": "grid", "cells.seed": "grid.size"})
        patch.setattr(config_history, "ADDED_KEYS", {"grid.point": None, "seed": 0.0})
        once = normalise_config(config)
        assert repr(normalise_config(once)) == repr(once)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("word", "current"),
    [
        ("cells=square", "grid=square"),
        ("cells.count=5", "grid.size=5"),
        ("+cells.more=1", "+grid.more=1"),
        ("~cells.count", "~grid.size"),
        ("++cells._target_=geoguesser.old.Cells", "++grid._target_=geoguesser.geo.Squares"),
        ("name=cells.count=3", "name=cells.count=3"),
        ("cellsize=3", "cellsize=3"),
    ],
)
def test_recorded_overrides_get_the_current_names(word: str, current: str):
    assert update_override(word) == current


@pytest.mark.usefixtures("later")
def test_recorded_targets_become_import_paths():
    config = {
        "cells": {"_target_": "geoguesser.old.Cells", "parts": [{"_target_": "geoguesser.away.Part"}]},
        "grid": {"point": "mine"},
        "trainer": {"_target_": "pytorch_lightning.Trainer"},
        "other": {"_target_": "geoguesser.away.Unknown"},
    }
    assert update_config(config, {"Part": "geoguesser.here.Part"}) == {
        "grid": {
            "point": "mine",
            "_target_": "geoguesser.geo.Squares",
            "parts": [{"_target_": "geoguesser.here.Part"}],
        },
        "trainer": {"_target_": "pytorch_lightning.Trainer"},
        "other": {"_target_": "geoguesser.away.Unknown"},
    }


def test_read_config_finds_classes_that_moved(tmp_path: Path):
    file = tmp_path / "config.yaml"
    grid = list_current_targets()["SquareGrid"]
    file.write_text(yaml.safe_dump({"seed": 0, "grid": {"_target_": "geoguesser.before.SquareGrid", "size": 5}}))
    assert read_config(file) == {"seed": 0, "grid": {"_target_": grid, "size": 5}}


def test_the_dictionaries_lead_to_current_names_in_one_step():
    for old, new in OLD_TARGETS.items():
        assert new not in OLD_TARGETS, old
    for old, new in RENAMED_KEYS.items():
        assert not any(f"{new}.".startswith(f"{other}.") for other in RENAMED_KEYS), old
    for key in ADDED_KEYS:
        assert key not in RENAMED_KEYS

    # A class name of an earlier version must lead to one current name only.
    renames: dict[str, set[str]] = {}
    for old, new in OLD_TARGETS.items():
        renames.setdefault(config_history._last_parts(old), set()).add(config_history._last_parts(new))
    assert all(len(names) == 1 for names in renames.values()), renames


def write_job(sweep: Path, folder: str, config: dict, state: str = "done") -> None:
    (sweep / folder).mkdir(parents=True)
    (sweep / folder / "config.yaml").write_text(yaml.safe_dump(config))
    (sweep / folder / "status.json").write_text(f'{{"state": "{state}"}}')


def test_a_job_is_found_by_its_recorded_config(tmp_path: Path):
    config = {"seed": 0, "name": "mine", "grid": {"_target_": "geoguesser.x.SquareGrid", "size": 5.0}}
    write_job(tmp_path, "old", config)
    (tmp_path / "never_trained").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("{")

    same = {"seed": 0, "grid": {"_target_": "geoguesser.y.z.SquareGrid", "size": 5}}
    assert find_job(tmp_path, make_job_name(same)) == "old"
    assert find_job(tmp_path, make_job_name({**same, "seed": 1})) is None
    assert find_job(tmp_path / "missing", make_job_name(same)) is None

    # A changed file is read again, though its sweep was indexed before.
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 11}))
    assert find_job(tmp_path, make_job_name(same)) is None


def test_of_several_folders_the_finished_one_is_the_job(tmp_path: Path):
    config = {"seed": 0}
    name = make_job_name(config)
    write_job(tmp_path, "a", config, "failed")
    write_job(tmp_path, name, config, "interrupted")
    assert find_job(tmp_path, name) == name
    write_job(tmp_path, "b", config)
    assert find_job(tmp_path, name) == "b"


def test_hydra_is_given_the_folder_of_the_old_job(tmp_path: Path):
    register_resolver()
    cfg = compose(["grid.size=33"])
    hydra = {"hydra": {"sweep": {"dir": str(tmp_path), "subdir": "${job_name:}"}}}
    assert OmegaConf.merge(hydra, cfg).hydra.sweep.subdir == make_job_name(resolve_run_config(cfg))

    write_job(tmp_path, "of_an_earlier_version", resolve_run_config(cfg))
    assert OmegaConf.merge(hydra, cfg).hydra.sweep.subdir == "of_an_earlier_version"
