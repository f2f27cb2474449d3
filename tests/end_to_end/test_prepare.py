"""From roots to a store to a trained model, as users do it; and what is refused on the way."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY, command, compose

from geoguesser.commands.predict import run_predict
from geoguesser.commands.prepare import run_prepare
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.images import ImageSpec
from geoguesser.data.store.reader import Store
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.errors import CheckpointError, ConfigError, DataError
from geoguesser.inference.predictor import Predictor

TRAIN = [word for word in TINY if not word.startswith("data.p")]
SIZE = ["image=px56", "image.size=32"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> tuple[Path, Path]:
    """60 synthetic places in two roots, 40 and 20."""
    home = tmp_path_factory.mktemp("roots")
    whole = ensure_demo(places=60, seed=0, px=56)
    table = pd.read_csv(whole / "data.csv")
    for name, rows in (("a", table[:40]), ("b", table[40:])):
        (home / name / "images").mkdir(parents=True)
        rows.to_csv(home / name / "data.csv", index=False)
        for uuid in rows["uuid"]:
            shutil.copytree(whole / "images" / uuid, home / name / "images" / uuid)
    return home / "a", home / "b"


def words(roots: tuple[Path, ...], *more: str) -> list[str]:
    return [f"data.roots=[{','.join(map(str, roots))}]", *SIZE, *more]


def prepare(roots: tuple[Path, ...], *more: str) -> PreparedDataset:
    return run_prepare(compose(words(roots, *more), "prepare"))


def predict(*overrides: str) -> pd.DataFrame:
    return run_predict(compose(list(overrides), "predict")).set_index("uuid")


@pytest.fixture(scope="module")
def store(roots: tuple[Path, Path], tmp_path_factory) -> Path:
    """A store."""
    folder = tmp_path_factory.mktemp("prepare") / "store"
    prepare(roots, f"out={folder}", "sizes=[56]")
    return folder


def test_a_store_has_a_report_and_its_findings(store: Path):
    page = (store / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert page.count("data:image/") >= 4
    assert list(pd.read_csv(store / "findings.csv")) == ["action", "kind", "where", "reason"]
    assert {path.name for path in store.parent.iterdir()} == {"store"}


def test_training_from_a_store_is_training_from_the_files(store, roots, run_job, tmp_path: Path):
    files = run_job([*TRAIN, "data=places", words(roots)[0]], tmp_path / "files")
    ready = run_job([*TRAIN, "data=store", f"data.path={store}"], tmp_path / "store")
    assert ready["test"] == files["test"]
    assert ready["data"] == files["data"]
    assert ready["baseline"] == files["baseline"]
    assert ready["audit"] == files["audit"]
    both = [pd.read_csv(tmp_path / name / "predictions_test.csv") for name in ("files", "store")]
    pd.testing.assert_frame_equal(*both)
    config = (tmp_path / "store/config.yaml").read_text()
    assert "StoredSplit" in config


def test_a_run_goes_on_with_its_own_data_alone(store, roots, run_job, tmp_path: Path):
    """From the store or from the files it was made from, which are the same; not from others."""
    run_job([*TRAIN, "trainer.max_epochs=1", "data=store", f"data.path={store}"], tmp_path / "run")
    resume = f"resume={tmp_path / 'run'}"
    again = run_job([*TRAIN, "data=places", words(roots)[0], resume], tmp_path / "run")
    assert again["epochs"] == 2
    before = (tmp_path / "run/result.json").read_bytes()
    shutil.copytree(roots[0], tmp_path / "other")
    (image,) = list((tmp_path / "other/images").glob("*/90.jpg"))[:1]
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"its data differ.*the contents of image files"):
        run_job([*TRAIN, "data=places", words((tmp_path / "other", roots[1]))[0], resume], tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"size and fit of views \(px32-crop there, px56-crop here\)"):
        run_job([*TRAIN, "data=store", f"data.path={store}", "image.size=56", resume], tmp_path / "run")
    assert (tmp_path / "run/result.json").read_bytes() == before


def test_predicting_a_store(store, roots, run_job, tmp_path: Path):
    run_job([*TRAIN, "data=store", f"data.path={store}"], tmp_path / "run")
    base = [f"run={tmp_path / 'run'}", f"out={tmp_path / 'p.csv'}"]
    predictions = predict(*base, f"images={store}")
    assert len(predictions) == 60
    truth = pd.read_csv(tmp_path / "run/predictions_test.csv").set_index("uuid")
    point = ["latitude", "longitude"]
    np.testing.assert_allclose(predictions.loc[truth.index, point], truth[point], atol=2e-4)
    folders = predict(*base, f"images={roots[1] / 'images'}")
    np.testing.assert_allclose(predictions.loc[folders.index, point], folders[point], atol=2e-4)

    small = tmp_path / "small"
    prepare(roots, f"out={small}", "image.size=24", "pictures=false")
    with pytest.raises(CheckpointError, match=r"size and fit of views differ \(px32-crop in the run, px24-crop"):
        predict(*base, f"images={small}")
    shutil.copytree(store, tmp_path / "older")
    manifest = json.loads((tmp_path / "older/store.json").read_text())
    manifest["images"]["px32-crop"]["fingerprint"]["decoder"] = "rules 0"
    (tmp_path / "older/store.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"differ in the image decoder \(rules 1.* there, rules 0 here\)"):
        predict(*base, f"images={tmp_path / 'older'}")


def test_places_with_fewer_views_train_and_predict(roots, run_job, tmp_path: Path):
    """The mask reaches fusion and prediction: what stands in a masked view makes no difference."""
    root = tmp_path / "root"
    shutil.copytree(roots[0], root)
    folders = sorted((root / "images").iterdir())
    for number, folder in enumerate(folders[:12]):
        for heading in (0, 90, 180, 270)[: 1 + number % 3]:
            (folder / f"{heading}.jpg").unlink()
    (folders[13] / "0.jpg").write_bytes(b"broken")
    mask = ["data.missing_views=mask", "data.on_bad.broken_image=skip"]
    with pytest.raises(DataError, match="12 missing_view"):
        run_job([*TRAIN, "data=places", f"data.roots=[{root}]"], tmp_path / "refused")
    files = run_job([*TRAIN, "fusion=mean", "data=places", f"data.roots=[{root}]", *mask], tmp_path / "files")
    assert files["counts"]["masked_views"] == 4 * (1 + 2 + 3) + 1
    assert files["counts"]["places"] == 40
    prepare((root,), *mask, f"out={tmp_path / 'store'}", "pictures=false")
    ready = run_job([*TRAIN, "fusion=mean", "data=store", f"data.path={tmp_path / 'store'}"], tmp_path / "ready")
    assert ready["test"] == files["test"]
    skips = ["data.on_bad.missing_view=skip", mask[1]]
    dropped = prepare((root,), *skips, f"out={tmp_path / 'dropped'}", "pictures=false")
    assert len(dropped.table) == 27

    base = [f"run={tmp_path / 'files'}", f"images={root / 'images'}", f"out={tmp_path / 'p.csv'}"]
    with pytest.raises(DataError, match=r"lacks 0\.jpg\. With missing_views=mask fewer views are enough"):
        predict(*base, "missing_views=error", "on_bad=error")
    predictions = predict(*base)
    assert predictions["views"].sum() == 4 * 40 - 4 * (1 + 2 + 3) - 1

    # The third place has one view, so that the mean of its views is that view.
    name = folders[2].name
    locator = Predictor.load(tmp_path / "files")
    view = torch.from_numpy(locator.image.read(folders[2] / "270.jpg"))
    junk = torch.randint(0, 256, (1, 4, 3, 32, 32), dtype=torch.uint8)
    junk[0, 3] = view
    alone = locator.predict_coords(junk, torch.tensor([[False, False, False, True]]))
    np.testing.assert_allclose(predictions.loc[name, ["latitude", "longitude"]].astype(float), alone[0], atol=1e-4)


def test_a_dry_run_of_a_store_counts(store, run_job, tmp_path: Path):
    facts = run_job([*TRAIN, "data=store", f"data.path={store}", "dry_run=true"], tmp_path / "dry")
    assert facts["places"]["places"] == 60
    assert facts["memory_gib"]["views"] == 0


# What is refused, and what only looking does


def test_looking_finds_all_mistakes_and_writes_nothing(roots, tmp_path: Path):
    root = tmp_path / "root"
    shutil.copytree(roots[1], root)
    folders = sorted((root / "images").iterdir())
    (folders[0] / "90.jpg").write_bytes(b"broken")
    (folders[1] / "0.jpg").unlink()
    with (root / "data.csv").open("a") as file:
        file.write("extra,45.5,abc\n")
    rule = r"(?s)^The data break rules \(1 bad_row, 1 missing_view, 1 broken_image\):.*on_bad\.broken_image=skip"
    with pytest.raises(DataError, match=rule):
        prepare((root,), "check_only=true")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]

    look = tmp_path / "look"
    look.mkdir()
    with pytest.raises(DataError):
        prepare((root,), "check_only=true", f"report={look}")
    assert len(pd.read_csv(look / "findings.csv")) == 3
    skips = [f"data.on_bad.{kind}=skip" for kind in ("bad_row", "missing_view", "broken_image")]
    assert len(prepare((root,), "check_only=true", *skips, f"report={look}", "pictures=false").table) == 18
    assert sorted(path.name for path in look.iterdir()) == ["findings.csv", "report.html"]


def test_a_store_cannot_be_prepared_once_more(store, tmp_path: Path):
    with pytest.raises(ConfigError, match="data must be places or demo: a store is prepared already"):
        run_prepare(compose([*SIZE, "data=store", f"data.path={store}", f"out={tmp_path / 'x'}"], "prepare"))


def test_views_are_normalised_by_those_of_training_also_with_init_from(store, run_job, tmp_path: Path):
    job = [*TRAIN, "data=store", f"data.path={store}"]
    run_job([*job, "trainer.max_epochs=1"], tmp_path / "first")
    more = ["image.normalise=dataset", f"init_from={tmp_path / 'first'}", "trainer.max_epochs=1"]
    run_job([*job, *more], tmp_path / "second")
    manifest = json.loads((store / "store.json").read_text())["images"]["px32-crop"]["train_pixels"]
    first, second = (Predictor.load(tmp_path / name).network for name in ("first", "second"))
    np.testing.assert_allclose(second.backbone.mean.flatten(), manifest["mean"], rtol=1e-6)
    np.testing.assert_allclose(second.backbone.std.flatten(), manifest["std"], rtol=1e-6)
    assert torch.equal(first.backbone.model.conv_stem.weight, second.backbone.model.conv_stem.weight)


def test_the_next_command_is_one_that_works(roots, run_job, tmp_path: Path, caplog):
    out = tmp_path / "my störe"
    job = [words(roots)[0], f"out='{out}'", "image.size=40", "image.fit=squash", "pictures=false", "region=world"]
    with caplog.at_level("INFO"):
        run_prepare(compose(job, "prepare"))
    (line,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("train with: "))
    asked = shlex.split(line.removeprefix("train with: "))
    assert asked[:3] == ["python", "-m", "geoguesser.train"]
    own = [word for word in TRAIN if not word.startswith("image")]
    result = run_job([*own, *asked[3:], "trainer.max_epochs=1"], tmp_path / "run")
    assert result["data"]["image"] == "px40-squash"


# Slow: kills, and two processes

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from conftest import compose
from geoguesser.data.store import shards
shards.SHARD_PLACES = 4
from geoguesser.commands.prepare import run_prepare
print("ready", flush=True)
run_prepare(compose({words!r}, "prepare"))
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(roots, tmp_path: Path):
    """SIGKILL after a random time, again and again, while a store grows; then the same bytes as without kills."""
    draws = random.Random(0)
    sizes = ("sizes=[56,224,448,896]", "pictures=false")  # some seconds of work
    whole, out = tmp_path / "whole", tmp_path / "killed"
    prepare(roots[::-1], f"out={whole}", *sizes)
    prepare(roots[1:], f"out={out}", *sizes)
    old = json.loads((out / "store.json").read_text())
    own = words(roots[::-1], f"out={out}", *sizes)
    code = DRIVER.format(tests=str(ROOT / "tests"), words=own)
    kills, packed = 0, []
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            time.sleep(draws.uniform(0.1, 0.9))
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        packed.append(len(list(out.glob("views/*/*.npz"))))
        if json.loads((out / "store.json").read_text())["places"] == 60:
            break
        assert json.loads((out / "store.json").read_text()) == old  # untouched
        assert len(Store.open(out).table()) == 20  # and its files are all there
    assert kills >= 2
    assert packed == sorted(packed)  # what was whole stayed
    run_prepare(compose(own, "prepare"))
    ready, sure = (json.loads((folder / "store.json").read_text()) for folder in (out, whole))
    assert ready["places"] == 60
    for name, entry in sure["images"].items():
        assert ready["images"][name]["fingerprint"] == entry["fingerprint"]
    for size in (32, 224, 896):
        views = [Store.open(folder).views(ImageSpec(size=size)) for folder in (out, whole)]
        assert torch.equal(*(one.gather(np.arange(60)) for one in views))
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
def test_two_processes_read_each_its_own_part(store, tmp_path: Path):
    """Every training place exactly once per epoch over both, in another order each epoch."""
    job = [*TRAIN, "data=store", f"data.path={store}", "trainer.devices=2", "augment=light", "data.batch_size=5"]
    recorder = "+callbacks.recorder._target_=support.batch_recorder.BatchRecorder"
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    words = [*job, recorder, f"hydra.run.dir={tmp_path / 'two'}"]
    done = command("geoguesser.train", *words, cwd=tmp_path, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    places = pd.read_csv(tmp_path / "two/places.csv")
    train = np.flatnonzero(places["split"] == "train").tolist()

    files = [tmp_path / f"two/rows-{rank}.jsonl" for rank in range(2)]
    processes = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    orders = []
    for epoch in range(2):
        batches = [[rows for at, _, rows in process if at == epoch] for process in processes]
        # The processes are in step.
        assert len(batches[0]) == len(batches[1])
        parts = [list(chain(*part)) for part in batches]
        assert sorted(parts[0] + parts[1]) == train
        orders.append(parts)
    assert orders[0] != orders[1]
