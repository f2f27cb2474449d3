"""Feature cache shared by runs: hits and misses, without an effect on results."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import TINY, compose

from geoguesser.commands.prepare import run_prepare
from geoguesser.data.checks import inspection as examine
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.store.reader import StoreViews
from geoguesser.errors import DataError

BASE = [word for word in TINY if not word.startswith(("data.p", "trainer.max"))] + ["trainer.max_epochs=1"]
HIT = "no view was decoded or embedded"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(ensure_demo(places=60, seed=0, px=56), root)
    return root


@pytest.fixture
def job(tmp_path: Path, root: Path, run_job: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> Any:
    """Trains on `root` with a cache of the test: job(*words) -> result, log, number of decoded files."""
    caplog.set_level("INFO")
    decoded = [0]
    decode = examine.decode_rgb

    def counted(*arguments: Any) -> Any:
        decoded[0] += 1
        return decode(*arguments)

    monkeypatch.setattr(examine, "decode_rgb", counted)
    monkeypatch.setenv("GEOGUESSER_CACHE", str(tmp_path / "cache"))
    numbers = iter(range(100))

    def run(*words: str) -> tuple[dict[str, Any], str, int]:
        caplog.clear()
        decoded[0] = 0
        has_data = any(word.startswith("data=") for word in words)
        data = [] if has_data else ["data=places", f"data.roots=[{root}]"]
        result = run_job([*BASE, *data, *words], tmp_path / f"run{next(numbers)}")
        return result, caplog.text, decoded[0]

    return run


def test_another_split_seed_or_head_is_a_hit(job: Any, tmp_path: Path) -> None:
    # Random weights would depend on the seed.
    trained = f"backbone.weights={tmp_path / 'trained.pth'}"
    torch.save(timm.create_model("mobilenetv3_small_050", num_classes=0).state_dict(), tmp_path / "trained.pth")
    first, log, decoded = job(trained)
    assert "embedded 240 views once" in log
    assert (decoded, first["features"]["cached"]) == (240, False)
    for change in (
        *("split.seed=1", "seed=1", "grid.size=10", "head=regression", "fusion=mean", "decoder=argmax"),
        *("data.fraction=0.5", "features.batch_size=7", "split=kfold"),
    ):
        result, log, decoded = job(trained, change)
        assert HIT in log, change
        assert decoded == 0, change
        assert result["features"] == {"cached": True, "key": first["features"]["key"]}


def test_other_weights_sizes_bytes_or_masks_are_misses(job: Any, root: Path) -> None:
    keys = [job()[0]["features"]["key"]]
    file = root / "images" / sorted(os.listdir(root / "images"))[5] / "90.jpg"

    def missed(*words: str) -> int:
        result, log, decoded = job(*words)
        assert "views once" in log
        keys.append(result["features"]["key"])
        return int(decoded)

    assert missed("backbone.name=resnet10t") == 240
    assert missed("image.normalise=dataset") == 240
    assert missed("image.size=40") == 240
    shutil.copy(file.with_name("0.jpg"), file)
    assert missed() == 240
    file.unlink()
    assert missed("data.missing_views=mask") == 239
    assert len(set(keys)) == len(keys)
    assert HIT in job("data.missing_views=mask")[1]


def test_a_touched_file_is_examined_but_not_embedded(job: Any, root: Path) -> None:
    first, _, _ = job()
    os.utime(next((root / "images").rglob("0.jpg")))
    repeated, log, decoded = job()
    assert decoded == 240
    assert repeated["features"] == {"cached": True, "key": first["features"]["key"]}
    assert "no view was embedded" in log


def test_a_file_that_broke_later_stops_the_run(job: Any, root: Path) -> None:
    job()
    file = next((root / "images").rglob("0.jpg"))
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(DataError, match="1 broken_image"):
        job()


@pytest.mark.parametrize("words", [[], ["image.normalise=dataset", "head=regression"]])
def test_a_result_does_not_depend_on_the_cache(job: Any, tmp_path: Path, words: list[str]) -> None:
    runs = [job(*words, f"features.cache={cached}")[0] for cached in ("false", "true", "true")]
    assert [run["features"]["cached"] for run in runs] == [False, False, True]
    results = [{key: value for key, value in run.items() if key not in ("times", "features")} for run in runs]
    assert len(set(map(json.dumps, results))) == 1
    folders = [tmp_path / f"run{number}" for number in range(3)]
    for name in ("predictions_test.csv", "places.csv"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1
    states = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in folders]
    assert all(torch.equal(states[0][key], state[key]) for state in states[1:] for key in states[0])


def test_training_on_pixels_reads_examined_files(job: Any) -> None:
    job()
    plain, _, _ = job("finetune=full", "features.cache=false")
    repeated, log, decoded = job("finetune=full")
    assert decoded == 240
    assert "240 views were examined by an earlier run" in log
    assert "read 240 views" in log
    assert repeated["test"] == plain["test"]
    assert repeated["features"] is None


def test_a_cache_that_cannot_be_written_is_one_warning(job: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    result, log, _ = job()
    assert log.count("nothing is kept for later runs") == 1
    assert result["features"] == {"cached": False, "key": None}


def test_a_store_is_not_touched_on_a_hit(job: Any, root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    words = [f"data.roots=[{root}]", "image=px56", "image.size=32", f"out={tmp_path / 'store'}", "pictures=false"]
    run_prepare(compose(["data=places", *words], "prepare"))
    first, _, _ = job()
    # Any use of pixels fails.
    monkeypatch.setattr(StoreViews, "gather", None)
    repeated, log, decoded = job("data=store", f"data.path={tmp_path / 'store'}")
    assert decoded == 0
    assert HIT in log
    assert repeated["features"] == {"cached": True, "key": first["features"]["key"]}
