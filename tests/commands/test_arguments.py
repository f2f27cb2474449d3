"""The command line before Hydra parses it: removed choices, renamed keys, `resume=` and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from geoguesser.commands.arguments import (
    REMOVED_CHOICES,
    RENAMED_OPTIONS,
    RENAMED_VALUES,
    check_group_choices,
    expand_resume,
    expand_runs,
    list_choices,
    refuse_credentials,
    update_arguments,
)
from geoguesser.errors import ConfigError, MissingFileError

RENAMED = [(command, old, new) for command, keys in RENAMED_OPTIONS.items() for old, new in keys.items()]


@pytest.mark.parametrize(
    "word", ["decoder=auto", "decoder=median,auto", "decoder=choice(auto,mean)", "+decoder=auto"]
)
def test_a_removed_choice_is_refused_with_what_to_use_instead(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^decoder=auto was removed .* Choose decoder=median"):
        check_group_choices(["resume=outputs/a", word])


def test_each_removed_choice_is_gone_and_its_message_names_one_that_is_there() -> None:
    for (group, name), message in REMOVED_CHOICES.items():
        choices = list_choices(group)
        instead = re.search(rf"Choose {group}=(\w+)", message)
        assert instead is not None
        assert name not in choices
        assert instead[1] in choices


@pytest.mark.parametrize("word", ["image=56", "image=px112,56"])
def test_a_number_as_a_choice_is_refused_with_the_choices(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^image must be one of px112, .*px56, got 56\.$"):
        check_group_choices([word])


@pytest.mark.parametrize("word", ["decoder=median,mean", "trainer=auto", "wandb=auto", "auto", "decoder.k=5", ""])
def test_other_words_pass(word: str) -> None:
    check_group_choices([word])


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_a_renamed_key_works_under_its_old_name_with_a_note(command: str, old: str, new: str, capsys) -> None:
    assert update_arguments(command, ["seed=3", f"{old}=7", f"+{old}=8", "--cfg"]) == [
        "seed=3", f"{new}=7", f"+{new}=8", "--cfg"
    ]  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == ""
    notes = captured.err.splitlines()
    assert len(notes) == 2
    assert notes[0].startswith(f"note: {old} is now {new};")


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_the_new_name_of_a_renamed_key_is_in_the_config(command: str, old: str, new: str) -> None:
    required = {"collect": ["out=o"], "export": ["run=r", "out=o"], "report": ["run=r"]}.get(command, [])
    choice = {"schedule.pct_start": ["schedule=onecycle"]}.get(new, [])
    config = compose([*required, *choice, f"{new}=1"], command)
    assert OmegaConf.select(config, new) == 1


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [(command, old, new) for command, values in RENAMED_VALUES.items() for old, new in values.items()],
)
def test_a_renamed_value_works_with_a_note(command: str, old: str, new: str, capsys) -> None:
    assert update_arguments(command, [old]) == [new]
    assert capsys.readouterr().err.startswith(f"note: {old} is now {new};")


def test_words_that_were_not_renamed_give_no_note(capsys) -> None:
    words = ["run=a", "images=b", "on_bad=prior", "--multirun"]
    assert update_arguments("predict", words) == words
    assert update_arguments("unknown", ["of=a"]) == ["of=a"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["plain-2.0", "with space", "šuma", "it's", "a,b", "a=b", "(x)", "back\\", "back\\'s"]
)
def test_a_resumed_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    """Hydra parses the word as well, and its grammar refuses most of these without quotes."""
    run = tmp_path / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.ckpt").touch()
    (run / "overrides.yaml").write_text("- seed=3\n- uncertainty.fewest=7\n")
    words = expand_resume([f"resume={run}", "pictures=false"])
    assert [words[0], words[1], words[3]] == ["seed=3", "calibration.min_places=7", "pictures=false"]
    parsed = OverridesParser.create().parse_overrides(words)
    values = {override.key_or_group: override.value() for override in parsed}
    assert values["resume"] == values["hydra.run.dir"] == str(run)


def test_a_command_without_resume_stays_as_it_is() -> None:
    for words in (["seed=1"], ["resume=null"], ["resume=a", "resume="]):
        assert expand_resume(words) == words


def test_a_folder_that_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "overrides.yaml").write_text("[]")
    with pytest.raises(MissingFileError, match=r"^resume=.* must be a run folder with overrides\.yaml and"):
        expand_resume([f"resume={tmp_path}"])


def test_words_that_name_runs_become_one_override(tmp_path: Path) -> None:
    folder = tmp_path / "it's=a [b], run"
    folder.mkdir()
    words = expand_runs(["a", "bootstrap.samples=9", str(folder), "--cfg", "job", "~/runs", "-m"])
    assert words[:4] == ["bootstrap.samples=9", "--cfg", "job", "-m"]
    (override,) = OverridesParser.create().parse_overrides(words[4:])
    assert (override.key_or_group, override.value()) == ("runs", ["a", str(folder), "~/runs"])
    assert expand_runs(["seed=1", "--help"]) == ["seed=1", "--help"]


def test_no_word_may_be_a_credential() -> None:
    assert refuse_credentials(["out=a"]) == ["out=a"]
    with pytest.raises(ConfigError, match="the command line"):
        refuse_credentials(["provider.key=AIza" + "a1B2" * 9])
