"""Entry points: words before Hydra, errors without tracebacks, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from geoguesser import cli
from geoguesser.errors import ConfigError


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch):
    """Runs train's entry point without Hydra: train(*words) -> exit code, words that Hydra would parse."""

    def run(*words: str, end: BaseException | None = None, sweep_code: int = 0) -> tuple[object, list[str] | None]:
        parsed: list[list[str]] = []

        def launch(name: str, module: str) -> None:
            parsed.append(sys.argv[1:])
            if end is not None:
                raise end

        monkeypatch.setattr(sys, "argv", ["train", *words])
        monkeypatch.setattr(cli, "_launch", launch)
        monkeypatch.setattr(cli, "finish_sweep", lambda: sweep_code)
        with pytest.raises(SystemExit) as caught:
            cli.command("train", rewrite=lambda words: [word for word in words if word != "drop"])()
        return caught.value.code, parsed[0] if parsed else None

    return run


@pytest.mark.parametrize(
    ("end", "sweep_code", "code"),
    [
        (None, 0, 0),
        (None, 1, 1),
        (SystemExit(3), 0, 3),
        (SystemExit(0), 1, 1),
        (KeyboardInterrupt(), 0, "interrupted"),
    ],
)
def test_the_exit_code_is_that_of_the_run_or_of_the_sweep(train, end, sweep_code: int, code: object) -> None:
    assert train(end=end, sweep_code=sweep_code)[0] == code


def test_words_are_rewritten_and_renamed_before_hydra_parses_them(train, capsys) -> None:
    code, words = train("drop", "seed=1", "uncertainty.fewest=9")
    assert (code, words) == (0, ["seed=1", "calibration.min_places=9"])
    assert "note: uncertainty.fewest is now calibration.min_places" in capsys.readouterr().err


def test_a_removed_choice_ends_the_command_before_hydra(train) -> None:
    code, words = train("decoder=auto")
    assert words is None
    assert str(code).startswith("error: decoder=auto was removed")


@pytest.mark.parametrize(("state", "has_log"), [(None, False), ("done", False), ("failed", True)])
def test_the_traceback_of_a_run_goes_to_its_error_log(
    state: str | None, has_log: bool, tmp_path: Path, capsys
) -> None:
    if state is not None:
        (tmp_path / "status.json").write_text(json.dumps({"state": state}))
    try:
        raise ConfigError.at("grid.size", "must be a positive integer", found=0)
    except ConfigError as error:
        cli._report_error(error, tmp_path)
    assert capsys.readouterr().err == "error: grid.size must be a positive integer, got 0.\n"
    assert (tmp_path / "error.log").exists() == has_log
    if has_log:
        assert "Traceback" in (tmp_path / "error.log").read_text()
