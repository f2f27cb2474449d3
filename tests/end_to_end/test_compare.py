"""python -m geoguesser.compare on real runs, as users type it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY, command, compose
from omegaconf import OmegaConf
from PIL import Image
from support.browser import needs_browser, open_page

from geoguesser.commands.compare import run_compare
from geoguesser.commands.prepare import run_prepare
from geoguesser.compare import expand_runs
from geoguesser.data.demo.dataset import get_demo_folder
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.reporting.comparison.places import find_spread_places

SPLIT = ["split.shares=[0.4,0.1,0.5]"]  # 30 of 60 places are for the test
JOBS = (["seed=0"], ["seed=1"], ["head=regression", "seed=0"], ["head=regression", "seed=1"])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two heads with two seeds each, a job that failed, and what else a sweep's folder holds."""
    from geoguesser.commands.train import run_training
    from geoguesser.system.log_filters import filter_logs

    filter_logs()
    folder = tmp_path_factory.mktemp("multirun") / "heads"
    for number, words in enumerate(JOBS):
        run_training(compose([*TINY, *SPLIT, *words]), folder / str(number))
    with pytest.raises(ConfigError):
        run_training(compose([*TINY, *SPLIT, "grid.size=-1"]), folder / "4")
    (folder / "summary.csv").write_text("job,state\n")
    (folder / ".hydra").mkdir()
    return folder


@pytest.fixture(scope="module")
def compared(sweep: Path, tmp_path_factory) -> tuple[Path, str]:
    """One comparison in a folder of its own, and what it printed."""
    place, said = tmp_path_factory.mktemp("compare"), io.StringIO()
    words = [str(sweep), f"out={place / 'compare.html'}", "bootstrap.samples=1000"]
    with contextlib.redirect_stdout(said):
        run_compare(compose(expand_runs(["compare", *words])[1:], "compare"))
    return place, said.getvalue()


@pytest.mark.slow  # in a process of its own
def test_the_command_writes_where_it_is_started(sweep: Path, tmp_path: Path):
    done = command("geoguesser.compare", str(sweep), "bootstrap.samples=1000", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.csv", "compare.html"]
    assert "2 configurations, 4 runs" in done.stdout


def test_a_sweep_becomes_a_page_and_a_table(sweep: Path, compared):
    place, said = compared
    assert sorted(path.name for path in place.iterdir()) == ["compare.csv", "compare.html"]
    assert "2 configurations, 4 runs" in said
    assert re.search(r"not used: heads/4 \(failed\)", said)
    table = pd.read_csv(place / "compare.csv").set_index("head")
    assert set(table.index) == {"classification", "regression"}
    for head, jobs in (("classification", (0, 1)), ("regression", (2, 3))):
        results = [json.loads((sweep / str(job) / "result.json").read_text()) for job in jobs]
        means = [result["test"]["error_km_mean"] for result in results]
        assert table.loc[head, "error_km_mean"] == pytest.approx(np.mean(means), abs=1e-4)
        assert table.loc[head, "seed_std_km"] == pytest.approx(np.std(means, ddof=1), abs=1e-4)
        assert table.loc[head, "fit_s"] == pytest.approx(np.mean([result["times"]["fit_s"] for result in results]))
        assert table.loc[head, "test_places"] == results[0]["test"]["places"]
    assert (table["verdict"] == "baseline").sum() == 1


def test_the_page_shows_views_of_the_demo(compared):
    text = (compared[0] / "compare.html").read_text()
    assert text.count("data:image/jpeg") == 24
    assert "no longer where" not in text
    assert "head=regression" in text


@needs_browser
def test_the_page_stands_in_a_browser(compared):
    with open_page() as (page, log):
        page.goto((compared[0] / "compare.html").as_uri())
        assert page.locator("[aria-label=contents]").count() == 1
    assert log.console == []


def test_keys_and_words_mix(sweep: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["out=b.html", str(sweep / "0"), "baseline=2", str(sweep / "2"), "pictures=false", "places=0"]
    given = expand_runs(["compare", *words, "confidence=0.9", "bootstrap.samples=1000"])
    run_compare(compose(given[1:], "compare"))
    text = (tmp_path / "b.html").read_text()
    assert "<img" not in text
    assert "90 %" in text
    assert "90 % intervals" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "b.csv").set_index("head").loc["regression", "verdict"] == "baseline"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "error: nowhere must be a run folder, or a sweep's."),
        (
            [],
            "error: runs must name run or sweep folders, got []. For example python -m geoguesser.",
        ),
        (["RUN", "out=x.pdf"], "error: out must be the name of an .html file, got 'x.pdf'."),
        (["RUN", "out=no/x.html"], "error: out=no/x.html must lie in a folder that exists, got 'no'."),
        (["RUN", "baseline=other"], "error: baseline must be one of the runs: 0, got 'other'."),
        (["RUN", "confidence=95"], "error: confidence must be a number from 0.5 to 0.999, got 95."),
        (
            ["RUN", "bootstrap.samples=10"],
            "error: bootstrap.samples must be an integer from 1000 to 1000000, got 10.",
        ),
        (["RUN", "places=-1"], "error: places must be an integer from 0 to 100, got -1."),
        (["RUN", "+typo=1"], "error: typo is no key of this program."),
    ],
)
def test_what_is_wrong_is_said(sweep: Path, tmp_path: Path, monkeypatch, words: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    given = expand_runs(["compare", *(str(sweep / "0") if word == "RUN" else word for word in words)])[1:]
    with pytest.raises((ConfigError, DataError, MissingFileError)) as caught:
        run_compare(compose(given, "compare"))
    assert f"error: {caught.value}".startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # in processes of their own
def test_an_error_is_printed_without_a_traceback(tmp_path: Path):
    done = command("geoguesser.compare", "nowhere", cwd=tmp_path, traced=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: nowhere must be a run folder, or a sweep's. Runs lie in outputs/DATE/TIME.\n"
    )  # fmt: skip


def test_views_come_from_a_store(sweep: Path, tmp_path: Path):
    """Runs whose data were a store, of which only 32 pixels are there."""
    words = ["data=demo", "data.places=60", "data.px=56", "image.size=32", f"out={tmp_path / 'store'}"]
    run_prepare(compose([*words, "pictures=false"], "prepare"))
    for job in ("0", "2"):
        shutil.copytree(sweep / job, tmp_path / "s" / job)
        config = OmegaConf.load(tmp_path / "s" / job / "config.yaml")
        config.data = {
            "_target_": "geoguesser.data.sources.store.StoreDataModule",
            "path": str(tmp_path / "store"),
        }
        OmegaConf.save(config, tmp_path / "s" / job / "config.yaml")
    given = expand_runs(["compare", str(tmp_path / "s"), f"out={tmp_path / 'c.html'}", "bootstrap.samples=1000"])
    found = run_compare(compose(given[1:], "compare"))
    for place in find_spread_places(found, 3):
        assert place.photos is not None
        views = [np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"), float) for photo in place.photos]
        assert [view.shape for view in views] == [(32, 32, 3)] * 4
        root = get_demo_folder(places=60, seed=0, px=56)
        file = Image.open(root / "images" / place.uuid / "90.jpg").resize((32, 32), Image.Resampling.BOX)
        assert np.abs(views[1] - np.asarray(file, float)).mean() < 12.0
    assert (tmp_path / "c.html").read_text().count("data:image/jpeg") == 24


def test_words_become_one_key(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    words = ["c", "a", "x=1", "it's [b], c", "--cfg", "job", "lr=0.1", "~/runs"]
    found = expand_runs(words)
    assert found[:4] == ["c", "x=1", "--cfg", "job"]
    config = OmegaConf.to_container(compose([found[4]], "compare"))
    assert config["runs"] == ["a", "it's [b], c", "lr=0.1", "~/runs"]
    assert expand_runs(["c", "--help"]) == ["c", "--help"]


@pytest.mark.slow  # in processes of their own
def test_help_is_quick_and_names_every_key():
    done = command("geoguesser.compare", "--help")
    assert done.returncode == 0
    for key in ("out", "baseline", "confidence", "places", "pictures", "bootstrap.samples", "bootstrap.block_km"):
        assert key in done.stdout
    code = (
        "import sys; heavy = lambda *names: sorted(set(names) & set(sys.modules));"
        "import geoguesser.compare; print(heavy('torch', 'matplotlib', 'pandas'));"
        "import geoguesser.commands.compare; print(heavy('pytorch_lightning', 'wandb', 'timm'))"
    )
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n[]\n"
