"""`python -m geoguesser.report` on real runs."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, compose, read_back
from omegaconf import OmegaConf
from PIL import Image
from playwright.sync_api import expect
from support.browser import CHROMIUM, needs_browser, open_page

from geoguesser.commands.prepare import run_prepare
from geoguesser.commands.report import run_report
from geoguesser.commands.train import run_training
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.errors import CheckpointError, DataError
from geoguesser.geo.distance import haversine_km
from geoguesser.reporting.explanation.gallery import Gallery
from geoguesser.reporting.explanation.subject import IMAGES_MISSING, Subject
from geoguesser.system.log_filters import filter_logs

SPLIT = ["split.shares=[0.4,0.3,0.3]", "calibration.fraction=0.5", "calibration.min_places=5"]
ALWAYS = {"arrows", "extremes", "fields", "budget", "network", "filters"}
# Pictures that need the images of the run.
SEEN = {"headings", "coverage", "quadruplet", "posterior_1"}
SURE = {"calibration", "abstention"}


def train(folder: Path, *words: str, base: list[str] = TINY) -> Path:
    filter_logs()
    run_training(compose([*base, *SPLIT, *words]), folder)
    return folder


def explain(run: Path, *words: str) -> tuple[Subject, Gallery]:
    return run_report(compose([f"run={run}", "device=cpu", *words], "report"))


def replace_data(run: Path, target: str, **values: Any) -> None:
    """Replaces the data source in the config of a run."""
    config = OmegaConf.load(run / "config.yaml")
    config.data = {"_target_": f"geoguesser.data.sources.{target}", **values}
    OmegaConf.save(config, run / "config.yaml")


def read_values(page: Path) -> dict[str, Any]:
    """Returns the values of the map of a page."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    values: dict[str, Any] = json.loads(match[1])
    return values


def names(run: Path) -> set[str]:
    return {path.stem for path in (run / "pictures").glob("*.png")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("report") / "run", "grid.size=20")


@pytest.fixture(scope="module")
def reported(trained: Path) -> Path:
    """Returns a run with its report."""
    run_report(compose([f"run={trained}", "examples=3", "thumbnails=7"], "report"))
    return trained


def test_a_report_is_a_page_and_pictures(reported):
    assert names(reported) == ALWAYS | SEEN | SURE | {"posterior_2", "posterior_3", "confusion"} | {
        f"activation_{number}" for number in (1, 2, 3)
    }
    for path in (reported / "pictures").glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width in (1000, 1200)
    assert not (reported / "wandb").exists()


def test_the_map_shows_the_results_of_the_run(reported):
    values = read_values(reported / "report.html")
    table = pd.read_csv(reported / "predictions_test.csv").set_index("uuid")
    assert sorted(place["id"] for place in values["places"]) == sorted(table.index)
    errors = [place["error"] for place in values["places"]]
    assert errors == sorted(errors)
    for place in values["places"]:
        row = table.loc[place["id"]]
        assert place["true"] == pytest.approx([row["true_latitude"], row["true_longitude"]], abs=1e-6)
        assert place["answer"] == pytest.approx([row["latitude"], row["longitude"]], abs=1e-6)
        assert place["error"] == pytest.approx(row["error_km"], abs=1e-3)
        assert place["expected"] == pytest.approx(row["expected_error_km"], rel=1e-3)
        assert place["radii"]["50"] == pytest.approx(row["radius_50_km"], rel=1e-3)
        assert place["cells"][0][0] == row["cell"]
        assert place["cells"][0][1] == pytest.approx(row["cell_probability"], abs=1e-3)
        assert {str(cell) for cell, _ in place["cells"]} <= set(values["cells"])


def test_the_requested_number_of_views_is_embedded(reported):
    values = read_values(reported / "report.html")
    shown = [place for place in values["places"] if "views" in place]
    assert len(shown) == 7
    text = (reported / "report.html").read_text()
    assert f"The views of 7 of {len(values['places'])} places are embedded in this file" in text
    for place in shown:
        sizes = [Image.open(io.BytesIO(base64.b64decode(view))).size for view in place["views"]]
        assert sizes == [(160, 160)] * 4


def test_the_page_states_its_figures_and_names_no_folder(reported):
    text = (reported / "report.html").read_text()
    result = json.loads((reported / "result.json").read_text())
    assert f"<b>{result['test']['places']}</b>" in text
    assert "The data are synthetic" in text
    assert "now differ" not in text
    assert "script-src &#39;sha256-" in text
    words = re.sub(r'base64,[A-Za-z0-9+/=]+|"views":\[[^]]*\]', "", text)
    assert str(reported.parent) not in words
    assert "/root" not in words
    assert len(text) < 12_000_000


@needs_browser
def test_places_are_chosen_filtered_and_sorted(reported):
    ids = [place["id"] for place in read_values(reported / "report.html")["places"]]
    with open_page() as (page, log):
        page.goto((reported / "report.html").as_uri())
        rows = page.locator("[data-place]")
        chosen = page.locator("#picked h3")
        previous_step, next_step = page.locator(".steps button").all()

        # The script chooses the place in the middle of the list.
        expect(chosen).to_have_text(ids[len(ids) // 2])
        expect(page.locator("#count")).to_have_text(f"{len(ids)} of {len(ids)} places listed")
        assert page.locator("[aria-current=true]").count() >= 1
        assert page.locator("canvas").count() == 1

        rows.nth(2).click()
        expect(chosen).to_have_text(ids[2])
        next_step.click()
        expect(chosen).to_have_text(ids[3])
        expect(page.locator(".steps button").nth(1)).to_be_focused()

        page.fill("#filter", rows.nth(5).inner_text()[:8])
        expect(page.locator("#count")).to_have_text(f"1 of {len(ids)} places listed")
        page.fill("#filter", "")
        expect(page.locator("#count")).to_have_text(f"{len(ids)} of {len(ids)} places listed")

        # Before the first place comes the last.
        rows.nth(0).click()
        previous_step.click()
        expect(chosen).to_have_text(ids[-1])

        # Places are listed by error, so that the second click puts the largest first.
        by_error = page.locator(".finder thead button").nth(1)
        by_error.click()
        by_error.click()
        expect(page.locator(".finder tbody button").first).to_have_text(ids[-1])
    assert log.console == []


@needs_browser
def test_the_page_is_no_wider_than_a_phone(reported):
    """Elements that scroll on their own do not count."""
    with open_page(width=390, height=844) as (page, _):
        page.goto((reported / "report.html").as_uri())
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        box = page.locator("#place-map").bounding_box()
    assert box is not None
    assert 200 < box["height"] < 600


@pytest.mark.slow
def test_places_may_be_named_and_fewer_shown(trained: Path, tmp_path: Path):
    table = pd.read_csv(trained / "predictions_test.csv").sort_values("error_km")
    named = [table["uuid"].iloc[3], table["uuid"].iloc[1]]
    run = shutil.copytree(trained, tmp_path / "run")
    out = tmp_path / "other.html"
    words = [f"places=[{','.join(named)}]", "max_places=5", "thumbnails=0", f"out={out}", "neighbours=false"]
    subject, gallery = explain(run, *words)
    assert [subject.table["uuid"].iloc[row] for row in subject.examples] == named
    assert 5 <= len(subject.table) <= 7
    assert "posterior_3" not in names(run)
    assert sum(picture.text.title.startswith("Posterior") for picture in gallery.pictures) == 2
    text = out.read_text()
    assert f"{len(subject.table)} of {len(table)} test places on the map" in text
    assert not any("views" in place for place in read_values(out)["places"])


def test_without_images_the_page_states_the_reason(trained: Path, tmp_path: Path):
    run = shutil.copytree(trained, tmp_path / "run")
    replace_data(run, "places.PlacesDataModule", roots=[str(tmp_path / "nowhere")])
    shutil.rmtree(run / "pictures", ignore_errors=True)
    subject, gallery = explain(run)
    assert subject.forward is None
    assert names(run) == ALWAYS | SURE | {"confusion"}
    assert IMAGES_MISSING in gallery.missing.values()
    text = (run / "report.html").read_text()
    assert IMAGES_MISSING in text
    assert "Choose a place" not in text
    assert str(tmp_path) not in text
    values = read_values(run / "report.html")
    assert values["cells"] == {}
    assert len(values["places"]) == len(subject.run.predictions)


def test_a_head_without_cells_is_explained_by_what_it_has(tmp_path: Path):
    run = train(tmp_path / "run", "head=regression", "fusion=concat", "fusion.view_dropout=0.2")
    _, gallery = explain(run, "examples=1")
    assert names(run) == ALWAYS | SEEN | {"calibration"}
    assert any("no cells" in why for why in gallery.missing.values())
    assert IMAGES_MISSING not in gallery.missing.values()
    titles = [picture.text.title for picture in gallery.pictures]
    assert any(title.startswith("Place and prediction: ") for title in titles)
    text = (run / "report.html").read_text()
    assert "Posterior" not in text
    assert "Darker cells are" not in text
    assert "Choose a place to see its 50 % circle (solid) and 90 % circle (dashed) and its views." in text
    place = read_values(run / "report.html")["places"][0]
    assert place["cells"] == []
    assert "radii" in place
    assert "expected" not in place


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["head=hybrid", "grid.size=20"],
        ["grid=staggered", "grid.size=20", "fusion=attention", "fusion.width=32"],
        ["region=world", "head=classification", "fusion=concat"],
        ["region=world", "head=regression", "head.space=sphere"],
        ["grid=kmeans", "grid.size=12", "backbone.name=test_vit"],
    ],
    ids=" ".join,
)
def test_every_kind_of_run_is_explained(words: list[str], tmp_path: Path):
    run = train(tmp_path / "run", *words)
    subject, _ = explain(run, "examples=3")
    cells = subject.grid is not None
    assert (ALWAYS | SEEN) - ({"filters"} if "test_vit" in words[-1] else set()) <= names(run)
    assert ("activation_3" in names(run)) == cells
    assert subject.drift_km < 0.1
    if CHROMIUM is not None:
        with open_page() as (page, log):
            page.goto((run / "report.html").as_uri())
        assert log.console == []


@pytest.mark.slow
def test_views_that_are_masked_are_left_out(trained: Path, tmp_path: Path):
    root = shutil.copytree(ensure_demo(places=60, px=56), tmp_path / "photos")
    for number, folder in enumerate(sorted((root / "images").iterdir())):
        if number % 2:
            (folder / "90.jpg").unlink()
    words = ["data=places", f"data.roots=[{root}]", "data.missing_views=mask", "grid.size=20"]
    run = train(tmp_path / "run", *words, base=[word for word in TINY if not word.startswith("data.p")])
    subject, _ = explain(run, "examples=3")
    assert subject.drift_km < 0.1
    lacks = [place for place in read_values(run / "report.html")["places"] if None in place["views"]]
    assert 0 < len(lacks) < len(subject.table)
    assert all(place["views"].index(None) == 1 for place in lacks)
    masked = ~subject.forward.mask.numpy()[:, 1]
    assert len(lacks) == masked.sum()
    assert torch.isnan(subject.left_out.moved_km[torch.from_numpy(masked), 1]).all()


@pytest.mark.slow
def test_images_may_lie_in_a_store(trained: Path, tmp_path: Path):
    words = ["data=demo", "data.places=60", "data.px=56", "image.size=32", f"out={tmp_path / 'store'}"]
    run_prepare(compose([*words, "pictures=false"], "prepare"))
    run = shutil.copytree(trained, tmp_path / "run")
    replace_data(run, "store.StoreDataModule", path=str(tmp_path / "store"))
    subject, _ = explain(run, "examples=1")
    assert len(subject.forward.rows) == len(subject.table)
    assert subject.drift_km < 0.1
    text = (run / "report.html").read_text()
    assert "The data are synthetic" in text
    assert str(tmp_path) not in text
    assert all(len(place["views"]) == 4 for place in read_values(run / "report.html")["places"])


@pytest.mark.slow
def test_pictures_go_into_a_record_of_their_own(tmp_path: Path):
    run = train(tmp_path / "run", "grid.size=20", "logger=wandb")
    before = set((run / "wandb").glob("offline-run-*"))
    explain(run, "examples=1")
    (folder,) = set((run / "wandb").glob("offline-run-*")) - before
    records = read_back(folder)
    text = json.dumps(records)
    assert '"report"' in text
    (trained,) = before
    assert trained.name.rsplit("-", 1)[-1] in text
    for name in names(run):
        assert f"pictures/{name}" in text
    assert str(tmp_path) not in text
    explain(run, "examples=1", "wandb=false")
    assert set((run / "wandb").glob("offline-run-*")) == before | {folder}


@pytest.mark.slow
def test_predictions_that_have_changed_are_reported(trained: Path, tmp_path: Path):
    run = shutil.copytree(trained, tmp_path / "run")
    table = pd.read_csv(run / "predictions_test.csv")
    table.loc[0, "latitude"] += 0.5
    table.to_csv(run / "predictions_test.csv", index=False)
    subject, _ = explain(run, "examples=0", "thumbnails=0")
    assert subject.drift_km == pytest.approx(float(haversine_km(np.zeros(2), np.array([0.5, 0.0]))), rel=1e-3)
    assert "predictions now differ by up to 56 km" in (run / "report.html").read_text()


def test_a_run_that_is_not_done_is_refused(trained: Path, tmp_path: Path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "status.json").write_text('{"state": "failed", "error": "DataError: gone"}')
    with pytest.raises(DataError, match="must be a run that is done, got 'failed: DataError: gone'"):
        explain(run)
    (run / "status.json").write_text('{"state": "done"}')
    (run / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is no checkpoint of geoguesser"):
        explain(run)
    (run / "predictions_test.csv").unlink()
    with pytest.raises(DataError, match=r"^run=.* must be readable"):
        explain(run)
