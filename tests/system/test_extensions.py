"""Import of extension packages, and the messages where it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from geoguesser.errors import ConfigError
from geoguesser.system.extensions import load_extensions


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Importable package `street_lib` with a subpackage; forgotten after the test."""
    folder = tmp_path / "street_lib"
    (folder / "heads").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "heads" / "__init__.py").touch()
    (folder / "heads" / "simple.py").write_text("KIND = 'simple'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return folder


def test_all_modules_of_a_package_are_imported_but_its_program(package: Path) -> None:
    (package / "__main__.py").write_text("raise AssertionError('the program was run')\n")
    load_extensions(["street_lib"])
    assert sys.modules["street_lib.heads.simple"].KIND == "simple"
    assert "street_lib.__main__" not in sys.modules


def test_a_module_is_imported_without_its_siblings(package: Path) -> None:
    (package / "broken.py").write_text("1 / 0\n")
    load_extensions(("street_lib.heads.simple",))
    assert "street_lib.heads.simple" in sys.modules


@pytest.mark.parametrize("names", [None, [], ()])
def test_there_may_be_none(names: object) -> None:
    load_extensions(names)


@pytest.mark.parametrize("names", ["street_lib", [3], {"street_lib": True}])
def test_the_key_must_be_a_list_of_names(names: object) -> None:
    with pytest.raises(ConfigError, match=r"^extensions must be a list of importable packages.*, got "):
        load_extensions(names)


@pytest.mark.parametrize("name", ["no_such_lib", "no_such_lib.heads", "street_lib.no_such_module"])
def test_a_package_that_is_not_found_names_the_remedy(name: str, package: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^extensions .*ModuleNotFoundError.*, got '{name}'\. .*PYTHONPATH"):
        load_extensions([name])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(", "SyntaxError: "),
        ("import sys; sys.exit('needs a licence')", "SystemExit: needs a licence"),
    ],
)
@pytest.mark.parametrize("place", ["broken.py", "heads/__init__.py", "heads/broken.py", "__init__.py"])
def test_a_module_that_fails_is_named_with_its_reason(place: str, code: str, reason: str, package: Path) -> None:
    (package / place).write_text(f"{code}\n")
    module = f"street_lib.{place.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
    message = rf"^extensions .*\({module}: {reason}.*, got 'street_lib'\. .* python -c \"import {module}\""
    with pytest.raises(ConfigError, match=message):
        load_extensions(["street_lib"])


@pytest.mark.parametrize("name", ["", ".relative", "two words"])
def test_a_name_that_is_no_package_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^extensions must name packages"):
        load_extensions([name])
