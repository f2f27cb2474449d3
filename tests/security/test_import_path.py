"""Modules that lie in the current directory run only for a command that asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with modules that replace installed ones, and one that lies nowhere else."""
    for name in ("pandas", "torch", "timm", "numba", "planted"):
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\n")
    return tmp_path


def list_ran(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


@pytest.mark.parametrize(
    "words",
    [
        ["geoguesser.compare", "runs=[.]"],
        pytest.param(["geoguesser.predict", "run=.", "images=."], marks=pytest.mark.slow),
        pytest.param(["geoguesser.train", "init_from=.", "dry_run=true"], marks=pytest.mark.slow),
    ],
)
def test_modules_of_the_current_directory_replace_no_installed_ones(folder: Path, words: list[str]):
    ended = command(*words, cwd=folder)
    assert "error: " in ended.stderr
    assert list_ran(folder) == []


def test_an_extension_may_lie_in_the_current_directory(folder: Path):
    command("geoguesser.compare", "runs=[.]", "extensions=[planted]", cwd=folder)
    assert list_ran(folder) == ["ran-planted"]
