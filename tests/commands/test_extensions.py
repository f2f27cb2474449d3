"""Packages of the user are imported with all their modules before the config is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import TINY, command
from geoguesser.commands.extensions import load_extensions

from geoguesser.errors import ConfigError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a nested module, importable from a folder of its own."""
    name = f"extension_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name / "heads").mkdir(parents=True)
    for file in ("__init__.py", "losses.py", "heads/__init__.py", "heads/own.py"):
        (tmp_path / name / file).write_text("loaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_all_modules_of_a_package_are_imported(package: str) -> None:
    load_extensions([package])
    assert {f"{package}.losses", f"{package}.heads.own"} <= set(sys.modules)


def test_a_single_module_is_imported(package: str) -> None:
    load_extensions([f"{package}.losses"])
    assert f"{package}.losses" in sys.modules
    assert f"{package}.heads.own" not in sys.modules


@pytest.mark.parametrize("names", [None, []])
def test_no_extensions_are_needed(names: object) -> None:
    load_extensions(names)


@pytest.mark.parametrize("names", ["my_package", [3], {"a": 1}])
def test_other_values_are_refused(names: object) -> None:
    with pytest.raises(ConfigError, match=r"^extensions must be a list of importable packages"):
        load_extensions(names)


def test_a_package_that_is_missing_or_broken_is_named(package: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^extensions must .*ModuleNotFound.*'no_such_package'.*PYTHONPATH"):
        load_extensions(["no_such_package"])
    (tmp_path / package / "losses.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"^extensions must .*ZeroDivisionError"):
        load_extensions([package])


def test_a_command_loads_them_before_it_runs(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "losses.py").write_text("print('loaded the extension')")
    words = [*TINY, "dry_run=true", f"hydra.run.dir={tmp_path / 'run'}", f"extensions=[{package}]"]
    done = command("geoguesser.train", *words, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "loaded the extension" in done.stdout
