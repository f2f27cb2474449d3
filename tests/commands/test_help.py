"""`--help` of each command describes all keys of its config, from the comments in its YAML."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, compose

from geoguesser.commands.arguments import list_choices
from geoguesser.commands.configs import conf_dir
from geoguesser.commands.help import format_help, parse_help

COMMANDS = sorted(path.stem for path in Path(conf_dir()).glob("*.yaml"))

EXAMPLE = """\
# Bakes bread.
#
#   python -m geoguesser.bake flour=rye
defaults:
  - _self_
  # The order of the entries matters.
  - oven: gas # Kind of oven.
  - split: null # Division of the loaf.
  - override hydra/job_logging: terminal

# Kind of flour, in
# one word.
flour: ???
# Settings of the oven.
oven:
  _target_: bakery.Oven
  # Temperature.
  heat_c: 220 # In degrees.
plain: "#"

hydra:
  job:
    name: bake
"""


def test_comments_above_and_beside_a_key_describe_it() -> None:
    parsed = parse_help(EXAMPLE)
    assert parsed.introduction == ["Bakes bread.", "", "  python -m geoguesser.bake flour=rye"]
    assert [(entry.name, entry.default, entry.text) for entry in parsed.groups] == [
        ("oven", "gas", "Kind of oven."),
        ("split", "null", "Division of the loaf."),
    ]
    assert [(entry.name, entry.default, entry.text) for entry in parsed.keys][:3] == [
        ("flour", "???", "Kind of flour, in one word."),
        ("oven", "", "Settings of the oven."),
        ("oven.heat_c", "220", "Temperature. In degrees."),
    ]
    assert not any(entry.name.startswith(("hydra", "defaults")) for entry in parsed.keys)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_key_with_its_default_and_a_description(command: str) -> None:
    config = yaml.safe_load(_read(command))
    config = {name: value for name, value in config.items() if name not in ("defaults", "hydra")}
    keys = {entry.name: entry for entry in parse_help(_read(command)).keys}

    def visit(node: dict, prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict) and not keys[key].default:
                visit(value, f"{key}.")
            elif name != "_target_":
                entry = keys[key]
                assert yaml.safe_load(entry.default) == value
                parent = keys.get(prefix.rstrip("."))
                assert entry.text or (parent and parent.text), f"{key} in conf/{command}.yaml has no comment"

    visit(config, "")
    text = format_help(command)
    for entry in keys.values():
        assert re.search(rf"^  {re.escape(entry.name)}(=|\.\*)", text, re.MULTILINE) or not entry.default


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_group_with_its_choices(command: str) -> None:
    text = format_help(command)
    for group in parse_help(_read(command)).groups:
        choices = list_choices(group.name)
        assert choices
        for choice in choices:
            assert re.search(rf"\b{choice}\b", text), (group.name, choice)
        assert group.text, f"the group {group.name} in conf/{command}.yaml has no comment"
    assert not re.search(r"\b_[a-z]+\b", text.replace("_self_", ""))


def test_internal_choices_are_not_offered() -> None:
    assert (Path(conf_dir()) / "data" / "_common.yaml").is_file()
    assert list_choices("data") == ["demo", "places", "store"]


def test_a_group_without_a_default_does_not_offer_null() -> None:
    experiments = ", ".join(list_choices("experiment"))
    assert re.search(rf"^  experiment +.*\n +{experiments}$", format_help("train"), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_lines_fit_a_terminal(command: str) -> None:
    assert max(map(len, format_help(command).splitlines())) <= 120


def test_all_commands_answer_help_without_heavy_imports() -> None:
    code = f"""
import contextlib, importlib, io, sys
for name in {COMMANDS}:
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        importlib.import_module(f"geoguesser.{{name}}").main()
    assert "Keys, given as KEY=VALUE" in out.getvalue(), name
heavy = {{"torch", "matplotlib", "pandas", "wandb"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_examples_of_train_compose() -> None:
    """An example with a key that was renamed must not stay in the help."""
    for line in parse_help(_read("train")).introduction:
        words = line.replace("'", "").split()
        if line.startswith("  python") and "--multirun" not in words and "resume" not in line:
            compose(words[3:])


def _read(command: str) -> str:
    return (Path(conf_dir()) / f"{command}.yaml").read_text(encoding="utf-8")
