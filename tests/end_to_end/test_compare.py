"""Comparison of real runs with the command `compare`."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import compose
from omegaconf import OmegaConf
from PIL import Image
from support.browser import needs_browser, open_page

from geoguesser.commands.arguments import expand_runs
from geoguesser.commands.compare import run_compare
from geoguesser.commands.prepare import run_prepare
from geoguesser.evaluation.comparison import Comparison
from geoguesser.reporting.comparison.places import find_spread_places

QUICK = "bootstrap.samples=1000"


def compare(*words: object) -> Comparison:
    return run_compare(compose(expand_runs([str(word) for word in words]), "compare"))


@pytest.fixture(scope="module")
def compared(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder of a comparison, and the command's output; the sweep also holds a failed job and other files."""
    runs = shutil.copytree(sweep, tmp_path_factory.mktemp("runs") / "heads")
    (runs / "3").mkdir()
    (runs / "3" / "status.json").write_text('{"state": "failed", "error": "ConfigError: grid.size"}')
    (runs / "summary.csv").write_text("job,state\n")
    (runs / ".hydra").mkdir()

    folder, output = tmp_path_factory.mktemp("compare"), io.StringIO()
    with contextlib.redirect_stdout(output):
        compare(runs, f"out={folder / 'compare.html'}", QUICK)
    return folder, output.getvalue()


def test_sweep_becomes_a_page_and_a_table(sweep: Path, compared):
    folder, output = compared
    assert sorted(path.name for path in folder.iterdir()) == ["compare.csv", "compare.html"]
    assert "2 configurations, 3 runs" in output
    assert re.search(r"not used: heads/3 \(failed\)", output)
    page = (folder / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 24
    assert "no longer where" not in page
    assert "head=regression" in page

    table = pd.read_csv(folder / "compare.csv").set_index("head")
    assert set(table.index) == {"classification", "regression"}
    assert (table["verdict"] == "baseline").sum() == 1
    for head, jobs in (("classification", (0, 1)), ("regression", (2,))):
        results = [json.loads((sweep / str(job) / "result.json").read_text()) for job in jobs]
        means = [result["test"]["error_km_mean"] for result in results]
        assert table.loc[head, "error_km_mean"] == pytest.approx(np.mean(means), abs=1e-4)
        assert table.loc[head, "fit_s"] == pytest.approx(np.mean([result["times"]["fit_s"] for result in results]))
        assert table.loc[head, "test_places"] == results[0]["test"]["places"]
        if len(jobs) > 1:
            assert table.loc[head, "seed_std_km"] == pytest.approx(np.std(means, ddof=1), abs=1e-4)


@needs_browser
def test_browser_shows_the_page_without_messages(compared):
    with open_page() as (page, log):
        page.goto((compared[0] / "compare.html").as_uri())
        assert page.locator("[aria-label=contents]").count() == 1
    assert log.console == []


def test_keys_and_runs_mix_on_the_command_line(sweep: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    compare(
        "out=b.html", sweep / "0", "baseline=2", sweep / "2", "pictures=false", "places=0", "confidence=0.9", QUICK
    )
    text = (tmp_path / "b.html").read_text()
    assert "<img" not in text
    assert "90 %" in text
    assert "90 % intervals" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "b.csv").set_index("head").loc["regression", "verdict"] == "baseline"


def test_views_come_from_a_store(sweep: Path, demo_root: Path, tmp_path: Path):
    # The store holds views of 32 pixels only.
    words = ["data=demo", "data.places=60", "data.px=56", "image.size=32", f"out={tmp_path / 'store'}"]
    run_prepare(compose([*words, "pictures=false"], "prepare"))
    for job in ("0", "2"):
        config_file = shutil.copytree(sweep / job, tmp_path / "s" / job) / "config.yaml"
        config = OmegaConf.load(config_file)
        config.data = {
            "_target_": "geoguesser.data.sources.store.StoreDataModule",
            "path": str(tmp_path / "store"),
        }
        OmegaConf.save(config, config_file)

    comparison = compare(tmp_path / "s", f"out={tmp_path / 'c.html'}", QUICK, "pictures=false")
    for place in find_spread_places(comparison, 3):
        assert place.photos is not None
        views = [np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"), float) for photo in place.photos]
        assert [view.shape for view in views] == [(32, 32, 3)] * 4
        original = Image.open(demo_root / "images" / place.uuid / "90.jpg").resize((32, 32), Image.Resampling.BOX)
        assert np.abs(views[1] - np.asarray(original, float)).mean() < 12.0
    assert (tmp_path / "c.html").read_text().count("data:image/jpeg") == 24
