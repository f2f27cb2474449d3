"""The export command: config keys, folder, model card, programs, and the code blocks of docs/export.md."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from conftest import ROOT, command, compose
from support.place_roots import write_views
from support.run_folders import KM_PER_DEGREE
from support.toy_locators import check_same_answers, make_calibrated_locator
from support.toy_run import REGION, toy_network, toy_places

import geoguesser
from geoguesser.commands.evaluate import run_evaluate
from geoguesser.commands.export import run_export
from geoguesser.errors import CheckpointError, ConfigError
from geoguesser.exporting.programs import open_onnx, open_torch
from geoguesser.inference.predictor import Predictor
from geoguesser.model.heads.regression import RegressionHead

# pytest would store hundreds of thousands of its lines.
logging.getLogger("torch.__trace").propagate = False


def make_figures(mean: float, median: float, near: float, score: float) -> dict[str, Any]:
    return {"error_km_mean": mean, "error_km_median": median, "share_within_km": {"25": near}, "score_mean": score}


RESULT: dict[str, Any] = {
    "test": {"places": 40, **make_figures(30.0, 25.0, 0.5, 3000.0)},
    "baseline": {"best_constant": make_figures(99.0, 90.0, 0.0, 900.0), "ridge": None},
    "counts": {"places": 1000, "train": 900, "val": 60, "test": 40, "unused": 0, "skipped": {"no_view": 3}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of the toy country with synthetic data: the files that an export reads."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    file = folder / "checkpoints" / "best.ckpt"
    make_calibrated_locator().save(file)
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["geoguesser"]["config"] = {"data": {"_target_": "geoguesser.data.sources.demo.DemoDataModule"}}
    torch.save(checkpoint, file)
    (folder / "result.json").write_text(json.dumps(RESULT))
    errors = np.random.default_rng(0).gamma(2.0, 15.0, 40)
    make_predictions(errors * 30.0 / errors.mean()).to_csv(folder / "predictions_test.csv")
    return folder


def make_predictions(error_km: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Makes a table of test places in the toy country, predicted too far north by their errors."""
    drawn = np.random.default_rng(1).uniform((45.0, 15.0), (45.7, 16.0), (len(error_km), 2))
    coords = pd.DataFrame(drawn, columns=["latitude", "longitude"])
    moved = coords.assign(latitude=coords["latitude"] + error_km / KM_PER_DEGREE)
    return moved.join(coords.add_prefix("true_")).assign(error_km=error_km)


def export(run: Path, out: Path, *words: str) -> Path:
    return run_export(compose([f"run={run}", f"out={out}", *words], "export"))


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export with all formats, the only one of the quick tests."""
    return export(run, tmp_path_factory.mktemp("export") / "model", "license=cc-by-4.0")


def test_the_folder_answers_as_the_run(run: Path, exported: Path) -> None:
    names = sorted(file.name for file in exported.iterdir())
    assert names == ["README.md", "config.json", "model.onnx", "model.pt2", "model.safetensors"]
    assert [file.name for file in exported.parent.iterdir()] == ["model"]
    images = toy_places()[1]
    model = geoguesser.load(exported)
    check_same_answers(model.predict(images), Predictor.load(run).predict(images))
    assert (model.about["synthetic"], model.about["license"]) == (True, "cc-by-4.0")


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx"])
def test_programs_predict_as_torch(name: str, run: Path, exported: Path) -> None:
    images = toy_places()[1]
    mask = torch.rand(images.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.6
    expected = Predictor.load(run).predict(images, mask)
    program = open_torch(exported / name) if name == "model.pt2" else open_onnx(exported / name, threads=1)
    for rows in (slice(0, 1), slice(0, 7), slice(None)):
        posterior, coords_deg = program(images[rows], mask[rows])
        assert (posterior.dtype, coords_deg.dtype) == (torch.float32, torch.float64)
        assert expected.posterior is not None
        np.testing.assert_allclose(posterior.numpy(), expected.posterior[rows], atol=1e-5)
        np.testing.assert_allclose(coords_deg.numpy(), expected.coords_deg[rows], atol=3e-5)  # 3 m


def test_programs_contain_their_description(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model)
    about = json.loads(model.metadata_props[0].value)
    assert about["views"] == {"size": 32, "fit": "crop", "headings": [0, 90, 180, 270]}
    assert (about["outputs"], about["region"]) == (["posterior", "coords_deg"], "Toyland")
    assert about["decoder"] == {"kind": "median", "temperature": 0.9}
    calibration = json.loads((exported / "config.json").read_text())["calibration"]
    assert about["temperature"] == calibration["temperature"] != 1.0
    extra = {"geoguesser.json": ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    assert json.loads(extra["geoguesser.json"]) == about


def test_the_card_shows_the_known_facts(exported: Path, run: Path) -> None:
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: geoguesser\nlicense: cc-by-4.0\ntags:\n- geolocation\n")
    assert "**The data are synthetic**" in card
    assert re.search(
        r"intervals: bootstrap over 40 places\.\n\n(?:.*\n){2}"
        r"\| this model \| 30\.0 \(2\d\.\d to 3\d\.\d\) \| 25\.0 \(\d+\.\d to \d+\.\d\) \| 50\.0% \| 3000 \|",
        card,
    )
    assert "| best constant answer | 99.0 | 90.0 | 0.0% | 900 |" in card
    assert (
        "A synthetic country, drawn by a program: 1,000 places (900 train, 60 val, 40 test), 3 more left out"
        in card
    )
    assert "28 validation places calibrated" in card
    assert re.search(r"\| model\.onnx \| 6 \| \d\.\de-\d\d \| \d\.\d\d m \|", card)
    for file in exported.iterdir():
        assert str(run).encode() not in file.read_bytes(), file


@pytest.mark.parametrize(("places", "units"), [(1, None), (30, "30 places"), (90, r"\d+ blocks of \d+ km")])
def test_the_cards_intervals_are_those_of_evaluate(
    places: int, units: str | None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    error_km = np.random.default_rng(places).gamma(2.0, 15.0, places)
    predictions = make_predictions(error_km).assign(uuid=range(places))
    predictions.to_csv(tmp_path / "run" / "predictions_test.csv", index=False)
    figures = make_figures(error_km.mean(), float(np.median(error_km)), 0.5, 3000.0)
    test = RESULT["test"] | figures | {"places": places}
    (tmp_path / "run" / "result.json").write_text(json.dumps(RESULT | {"test": test}))
    card = (export(tmp_path / "run", tmp_path / "model", "formats=[portable]") / "README.md").read_text()
    words = [f"run={tmp_path / 'run'}", f"out={tmp_path / 'evaluation'}", "pictures=false"]
    evaluation = run_evaluate(compose(words, "evaluate"))
    shown = []
    for name in ("mean", "median"):
        interval = evaluation["error_km"][name]
        limits = "" if interval["low"] is None else f" ({interval['low']:.1f} to {interval['high']:.1f})"
        shown.append(f"{interval['value']:.1f}{limits}")
    assert f"| this model | {shown[0]} | {shown[1]} |" in card
    assert f"{places} held-out test place{'s' if places > 1 else ''}." in card
    if units is None:
        assert "intervals" not in card
    else:
        assert re.fullmatch(units, evaluation["units"])
        assert f"bootstrap over {evaluation['units']}." in card
        assert f"Intervals: bootstrap over {evaluation['units']}." in capsys.readouterr().out


def test_a_checkpoint_without_a_run_folder_has_no_figures(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "some.ckpt")
    made = export(tmp_path / "some.ckpt", tmp_path / "model", "formats=[portable]")
    assert sorted(file.name for file in made.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (made / "README.md").read_text()
    assert "Not known: the model was exported from a checkpoint" in card
    assert "none is stated" in card
    assert "Programs" not in card


def test_only_an_earlier_export_is_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    export(run, out, "formats=[portable]")
    (out / "model.onnx").write_bytes(b"of an earlier one")
    export(run, out, "formats=[portable]", "license=mit")
    assert not (out / "model.onnx").exists()
    assert "Licence of the weights: mit" in (out / "README.md").read_text()
    (out / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"out=.* must be new, empty, or an earlier export, got 'thesis\.txt'"):
        export(run, out, "formats=[portable]")
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("My project")
    with pytest.raises(ConfigError, match=r"got 'README\.md'"):
        export(run, other, "formats=[portable]")


@pytest.mark.slow
def test_a_program_that_differs_is_removed(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    with pytest.raises(CheckpointError, match=r"^model\.pt2 differs from torch by .* and was removed"):
        export(run, out, "formats=[portable,torch]", "tolerance.km=0.0")
    assert list(tmp_path.iterdir()) == []


def test_onnx_needs_its_packages(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geoguesser.exporting import programs

    monkeypatch.setattr(programs, "ONNX_PACKAGES", ("onnx", "a_package_that_nobody_has"))
    with pytest.raises(
        ConfigError, match=r"needs a_package_that_nobody_has, not installed\. Install geoguesser\[export\]"
    ):
        export(run, tmp_path / "model")


def write_photos(folder: Path) -> Path:
    """Writes two places with four photos each into `folder` / photos."""
    for name in ("a", "b"):
        write_views(folder / "photos" / name, name, px=64)
    return folder


def test_every_python_block_of_the_docs_runs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    shutil.copytree(exported, write_photos(tmp_path) / "model")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/export.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("a [4")
    by_onnx = np.array(re.findall(r"\d+\.\d+", shown[-1])[:2], dtype=float)
    own = geoguesser.load(exported).predict({at: f"photos/a/{at}.jpg" for at in (0, 90)}).coords_deg[0]
    np.testing.assert_allclose(by_onnx, own, atol=0.02)  # Pillow reads views a little differently


@pytest.mark.slow
def test_the_command_line_with_verify_on(run: Path, tmp_path: Path) -> None:
    words = [f"run={run}", "out=model", "formats=[torch,onnx]", f"verify_on={write_photos(tmp_path) / 'photos'}"]
    done = command("geoguesser.export", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "programs are also compared on 2 places of verify_on" in done.stdout + done.stderr
    assert "written to model: README.md, model.onnx, model.pt2" in done.stdout + done.stderr
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["README.md", "model.onnx", "model.pt2"]


@pytest.mark.slow
def test_the_card_of_regression_states_that_points_stay_at_sea(tmp_path: Path) -> None:
    network = toy_network()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size, region=REGION, train_coords_deg=toy_places()[0]
    )
    Predictor(network, REGION, make_calibrated_locator().image).save(tmp_path / "some.ckpt")
    folder = export(tmp_path / "some.ckpt", tmp_path / "model")
    assert "Programs do not move points to the land" in (folder / "README.md").read_text()
