"""Tests of the command: refusals before models are loaded, addresses, names of models, and the end."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest
from conftest import TINY, compose
from support.background import read_until, start_command
from support.toy_run import IMAGE, REGION, toy_network

from geoguesser.app.limits import Limits, make_limits
from geoguesser.app.registry import make_model_name
from geoguesser.app.server import listen
from geoguesser.commands import serve
from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.commands.serve import check_extra, load_models, run_serve
from geoguesser.commands.train import run_training
from geoguesser.errors import ConfigError
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import write_model_folder
from geoguesser.system.log_filters import filter_logs


def test_the_config_has_the_defaults_of_the_code():
    config = to_plain(compose(["run=r"], "serve"), list_known_keys("serve"))
    assert make_limits(config["limits"]) == Limits()
    assert config["host"] == "127.0.0.1"
    assert config["root"] is None


def test_a_port_that_is_taken():
    # The first server listens before it has loaded its models.
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port cannot be used \(Address .*, got {port}\. port=0 "):
            run_serve(compose(["run=r", f"port={port}"], "serve"))


@pytest.mark.parametrize(("synthetic", "label"), [(True, "synthetic demo"), (False, "")])
def test_label_of_an_exported_model(synthetic, label, tmp_path):
    write_model_folder(Predictor(toy_network(), REGION, IMAGE), tmp_path, {"synthetic": synthetic})
    (model,) = load_models([str(tmp_path)], "cpu")
    assert model.label == label
    assert "no run folder" in model.no_game


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None if name == "fastapi" else object())
    with pytest.raises(ConfigError, match=r"needs fastapi\. Install geoguesser\[serve\]"):
        check_extra()


def test_names_of_models(tmp_path):
    names: list[str] = []
    for folder in ("2026-11-27/12-30-00", "a/my run!", "b/my run!", "c/..."):
        (tmp_path / folder).mkdir(parents=True)
        names.append(make_model_name(tmp_path / folder, names))
    assert names == ["2026-11-27_12-30-00", "my-run", "my-run-2", "model"]


@pytest.mark.slow
def test_serves_until_it_is_interrupted(tmp_path: Path):
    filter_logs()
    run_training(compose(TINY), tmp_path / "first")
    overrides = [f"run=[{tmp_path}/first,{tmp_path}/first/checkpoints/best.ckpt]", "port=0", "threads=1"]
    with start_command("geoguesser.serve", *overrides) as process:
        lines = read_until(process, "Serving on ")
        model_lines = [line for line in lines if line.startswith("model ")]
        assert model_lines[0] == "model first: Croatia, 4 places for the game\n"
        assert model_lines[1].startswith("model best: Croatia, The model has no run folder")

        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", lines[-1])
        models = httpx.get(f"{address}api/v1/models").json()["models"]
        assert [(model["name"], model["game_places"]) for model in models] == [("first", 4), ("best", 0)]
        assert "<title>geoguesser</title>" in httpx.get(address).text

        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "Stopped.\n")
