"""The command: its refusals before anything is loaded, its address, and its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from conftest import ROOT, TINY, command, compose
from support.toy_run import IMAGE, REGION, toy_network

from geoguesser.app.limits import Limits, make_limits
from geoguesser.app.registry import make_model_name
from geoguesser.app.server import listen
from geoguesser.commands import serve as serving
from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.commands.serve import check_extra, load_models, run_serve
from geoguesser.commands.train import run_training
from geoguesser.errors import ConfigError, GeoguesserError
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import write_model_folder
from geoguesser.system.log_filters import filter_logs


def test_the_file_says_what_the_code_would():
    config = to_plain(compose(["run=r"], "serve"), list_known_keys("serve"))
    assert make_limits(config["limits"]) == Limits()
    assert config["host"] == "127.0.0.1"
    assert config["root"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=[]"], "run must name a run folder, or several: run=[A,B], got []."),
        (["run=3"], "run must name a run folder"),
        (["run=r", "port=70000"], "port must be an integer from 0 to 65535, got 70000."),
        (["run=r", "threads=0"], "threads must be a positive integer, got 0."),
        (["run=r", "host=''"], "host must be an address of this machine, got ''."),
        (
            ["run=r", "host=203.0.113.7"],
            "host cannot be used (Cannot assign requested address), got '203.0.113.7'.",
        ),
        (["run=r", "hosts=a"], "hosts must be a list of names: hosts=[maps.example.org], got 'a'."),
        (["run=r", "root=/none/such"], "root=/none/such must be a folder."),
        (["run=r", "limits.batch=0"], "limits.batch must be a positive integer, got 0."),
        (["run=r", "limits.upload_mib=0"], "limits.upload_mib must be a number above 0, got 0."),
        (["run=r", "limits.wait_ms=-1"], "limits.wait_ms must be a number from 0, got -1."),
        (["run=r", "limits=3"], "limits must be a mapping of upload_mib"),
        (["run=r", "+limits.more=1"], "limits.more is no key of this program. Its keys: upload_mib, "),
        (["run=/none/such", "port=0"], "/none/such must be a run folder with checkpoints/best.ckpt"),
        (
            ["run=/none/such", "port=0", "device=tpu9"],
            "device must be auto or a device of this machine, got 'tpu9'.",
        ),
    ],
)
def test_refusals(words, message):
    with pytest.raises(GeoguesserError, match=re.escape(message)):
        run_serve(compose(words, "serve"))


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port cannot be used \(Address .*, got {port}\. port=0 "):
            run_serve(compose(["run=r", f"port={port}"], "serve"))


def test_two_servers_that_start_at_once_never_have_one_port():
    with listen("127.0.0.1", 0) as own:  # neither has loaded its models
        port = own.getsockname()[1]
        with pytest.raises(ConfigError, match="port cannot be used"), listen("127.0.0.1", port):
            pass


@pytest.mark.parametrize(("synthetic", "label"), [(True, "synthetic demo"), (False, "")])
def test_an_exported_model_says_whether_its_data_are_synthetic(synthetic, label, tmp_path):
    write_model_folder(Predictor(toy_network(), REGION, IMAGE), tmp_path, {"synthetic": synthetic})
    (model,) = load_models([str(tmp_path)], "cpu")
    assert model.label == label
    assert "no run folder" in model.no_game


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    def found(name: str) -> object:
        return None if name == "fastapi" else SimpleNamespace()

    monkeypatch.setattr(serving.importlib.util, "find_spec", found)
    with pytest.raises(ConfigError, match=re.escape("The server needs fastapi. Install geoguesser[serve].")):
        check_extra()


def test_names_of_models(tmp_path):
    for folder in ("2026-11-27/12-30-00", "a/my run!", "b/my run!", "c/..."):
        (tmp_path / folder).mkdir(parents=True)
    taken: list[str] = []
    for folder in ("2026-11-27/12-30-00", "a/my run!", "b/my run!", "c/..."):
        taken.append(make_model_name(tmp_path / folder, taken))
    assert taken == ["2026-11-27_12-30-00", "my-run", "my-run-2", "model"]


def test_help_is_quick_and_names_every_limit():
    start = time.perf_counter()
    done = command("geoguesser.serve", "--help")
    assert done.returncode == 0
    assert time.perf_counter() - start < 30  # seconds of it are this machine's; with torch it would be tens
    keys = set(to_plain(compose(["run=r"], "serve"), list_known_keys("serve"))["limits"])
    assert keys == set(re.findall(r"limits\.(\w+)", done.stdout))


@pytest.mark.slow  # a process that imports torch
def test_it_serves_until_it_is_interrupted(tmp_path: Path):
    filter_logs()
    run_training(compose(TINY), tmp_path / "first")
    words = [f"run=[{tmp_path}/first,{tmp_path}/first/checkpoints/best.ckpt]", "port=0", "threads=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "geoguesser.serve", *words],
        cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("Serving on ")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        told_of = [line for line in lines if line.startswith("model ")]
        assert told_of[0] == "model first: Croatia, 4 places for the game\n"
        assert told_of[1].startswith("model best: Croatia, The model has no run folder")
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", lines[-1])
        told = httpx.get(f"{address}api/v1/models").json()["models"]
        assert [one["name"] for one in told] == ["first", "best"]
        assert [one["game_places"] for one in told] == [4, 0]
        assert "<title>geoguesser</title>" in httpx.get(address).text
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == "Stopped.\n"
    assert errors == ""
