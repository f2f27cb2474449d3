"""Examples of docs/extending.md: run from another folder, with only their copy and the package importable."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, command
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import geoguesser
from geoguesser.commands.configs import check_keys, conf_dir, instantiate_node
from geoguesser.commands.recorded_config import read_config
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.sources.base import SourceKind, source_from_config
from geoguesser.errors import CheckpointError
from geoguesser.model.backbone import BACKBONES
from geoguesser.model.heads.registry import HEADS
from geoguesser.runs.config_keys import redact_config
from geoguesser.system.extensions import load_extensions

EXAMPLES = ROOT / "examples" / "extending"
PAGE = ROOT / "docs" / "extending.md"
FILES = sorted(str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.yaml")) + sorted(
    str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.py") if file.name != "__init__.py"
)
EXTENSIONS = "extensions=[my_geoguesser]"
TINY = [
    *("image=px56", "image.size=32", "density=coarse", "pictures=false", "trainer=cpu", "trainer.max_epochs=1"),
    *("split.shares=[0.4,0.2,0.4]", "calibration.min_places=2", "data=table", "data.table=places.csv"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a user: a copy of the examples, and a table of places."""
    folder = tmp_path_factory.mktemp("user") / "street"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))

    root = ensure_demo(places=60, seed=0, px=56)
    table = pd.read_csv(root / "data.csv").rename(columns={"uuid": "id", "latitude": "lat", "longitude": "lon"})
    for column, heading in {"north": 0, "east": 90, "south": 180, "west": 270}.items():
        table[column] = [str(root / "images" / name / f"{heading}.jpg") for name in table["id"]]
    table.to_csv(folder / "places.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """Run with the custom head, backbone, data source and tracker."""
    words = ["extensions=[my_geoguesser]", "head=distance", "backbone=shufflenet", "logger=notebook"]
    execute(home, "train", "--config-dir=conf", *words, *TINY, "name=first", "hydra.run.dir=first")
    return home / "first"


@pytest.fixture
def importable(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the user's package importable in this process; what it registers is forgotten after the test."""
    monkeypatch.syspath_prepend(home)
    modules, kinds = dict(sys.modules), [(registry, dict(registry)) for registry in (HEADS, BACKBONES)]
    yield
    for name in set(sys.modules) - set(modules):
        if name.startswith("my_geoguesser"):
            del sys.modules[name]
    for registry, before in kinds:
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def execute(home: Path, name: str, *words: str, fails: bool = False) -> Any:
    """Runs a command in the user's folder; its `stderr` and `stdout` are texts."""
    package_folder = Path(geoguesser.__file__).parents[1]
    environment = {"PYTHONPATH": f"{home}{os.pathsep}{package_folder}"}
    process = command(f"geoguesser.{name}", *words, cwd=home, env=environment, traced=not fails)
    assert process.returncode == (1 if fails else 0), process.stderr
    return process


def test_the_page_shows_each_file_of_the_examples() -> None:
    blocks = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert sorted(blocks) == sorted(FILES)
    for name, code in blocks.items():
        assert code == (EXAMPLES / name).read_text(), name
        assert not name.endswith(".py") or len(code.splitlines()) <= 60


def test_choices_that_need_only_yaml_are_built(home: Path) -> None:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        search_path = f"hydra.searchpath=[file://{home}/conf]"
        config = compose("train", overrides=[search_path, "backbone=convnext", "optimizer=nadam", "sweep=heads"])
        plain = OmegaConf.to_container(config)
    check_keys(plain["backbone"], "backbone", {})
    assert instantiate_node({**plain["backbone"], "pretrained": False}, "backbone").feature_size == 640
    assert instantiate_node(plain["optimizer"], "optimizer").options["decoupled_weight_decay"] is True


def test_a_run_records_the_extensions_and_its_parts(run: Path, home: Path) -> None:
    config = read_config(run / "config.yaml")
    assert config["extensions"] == ["my_geoguesser"]
    assert config["head"] == {"_target_": "my_geoguesser.distance_head.DistanceHead.fit"}
    assert config["backbone"]["_target_"] == "my_geoguesser.torchvision_backbone.ShuffleNetBackbone"
    assert not {"grid", "loss", "decoder"} & set(config)
    assert re.search(r"^\| first \| \d+\.\d \| \d+\.\d \| ", (home / "notebook.md").read_text(), re.MULTILINE)


def test_a_data_source_is_declared_once(run: Path, importable: None) -> None:
    config = read_config(run / "config.yaml")
    # What a config names is not imported, except by the key `extensions` of the command.
    assert source_from_config(config).kind is None
    load_extensions(config["extensions"])
    record = source_from_config(config)
    assert isinstance(record.kind, SourceKind)
    assert record.kind.name == "table"
    assert record.folders == (Path("places.csv"), Path("table_photos"))
    assert not {"table", "folder"} & set(redact_config(config)["data"])


def test_without_the_extension_the_checkpoint_is_refused(run: Path) -> None:
    known = rf"^{re.escape(str(run))}\S* cannot be loaded: backbone\.kind must be one of timm, got 'shufflenet'"
    with pytest.raises(CheckpointError, match=known) as caught:
        geoguesser.load(run)
    assert str(caught.value).endswith("add extensions=[my_geoguesser].")


@pytest.mark.usefixtures("importable")
def test_python_loads_the_model_with_the_extension(run: Path) -> None:
    model = geoguesser.load(run, extensions=["my_geoguesser"])
    views = np.zeros((2, 4, 3, 32, 32), dtype=np.uint8)
    predicted = model.predict(views).coords_deg
    assert predicted.shape == (2, 2)
    assert model.region.distance_to_land_km(predicted).max() < 100.0

    # The modules are imported now.
    np.testing.assert_array_equal(geoguesser.load(run).predict(views).coords_deg, predicted)


@pytest.mark.slow
def test_commands_use_the_run_with_the_extension(run: Path, home: Path) -> None:
    execute(home, "predict", "run=first", "images=table_photos/images", "out=points.csv", EXTENSIONS)
    assert len(pd.read_csv(home / "points.csv")) == 60

    execute(home, "evaluate", "run=first", "out=evaluation", "pictures=false", EXTENSIONS)
    assert (home / "evaluation" / "evaluation.json").is_file()

    # The photos are found again in the folder that the data source declares.
    execute(home, "report", "run=first", "device=cpu", EXTENSIONS)
    assert list(run.rglob("quadruplet*"))

    # Commands write nothing else into the current folder.
    assert not {"outputs", "multirun", ".hydra"} & {path.name for path in home.iterdir()}


@pytest.mark.slow
def test_runs_with_custom_parts_are_compared(run: Path, home: Path) -> None:
    words = ["loss=focal", "loss.gamma=1", "backbone=shufflenet", "finetune=full", "logger=csv", *TINY]
    execute(home, "train", "--config-dir=conf", *words, "hydra.run.dir=second")
    assert read_config(home / "second" / "config.yaml")["loss"]["gamma"] == 1

    compared = execute(home, "compare", "first", "second", "pictures=false")
    assert "2 configurations, 2 runs" in compared.stdout
    page = (home / "compare.html").read_text()
    assert "first" in page
    assert "second" in page
    execute(home, "compare", "first", "second", "pictures=false", "out=again.html", EXTENSIONS)


@pytest.mark.slow
def test_an_exported_model_names_its_extensions(run: Path, home: Path) -> None:
    execute(home, "export", "run=first", "out=exported", "formats=[portable,torch]", EXTENSIONS)
    with pytest.raises(CheckpointError, match=r"backbone\.kind .*add extensions=\[my_geoguesser\]\.$"):
        geoguesser.load(home / "exported")
    execute(home, "predict", "run=exported", "images=table_photos/images", "out=small.csv", EXTENSIONS)


@pytest.mark.slow
def test_a_run_is_resumed_and_its_data_are_prepared(run: Path, home: Path) -> None:
    execute(home, "train", "--config-dir=conf", "resume=first", "trainer.max_epochs=2")
    assert len(pd.read_csv(run / "metrics.csv")) == 2
    execute(home, "prepare", "--config-dir=conf", "data=table", "data.table=places.csv", "image=px56", "out=store")
    assert (home / "store").is_dir()
