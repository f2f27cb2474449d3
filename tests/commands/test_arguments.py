"""Checks of the command line before Hydra reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geoguesser.commands.arguments import REMOVED_CHOICES, check_choices
from geoguesser.commands.configs import conf_dir
from geoguesser.errors import ConfigError


@pytest.mark.parametrize(
    "word", ["decoder=auto", "decoder=median,auto", "decoder=choice(auto,mean)", "+decoder=auto"]
)
def test_a_removed_choice_is_refused_with_what_to_use_instead(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^decoder=auto was removed in version 0\.2\. Choose decoder=median"):
        check_choices(["resume=outputs/a", word])


def test_each_removed_choice_is_gone_and_its_message_names_one_that_is_there() -> None:
    for (group, name), message in REMOVED_CHOICES.items():
        choices = {path.stem for path in Path(conf_dir(), group).glob("*.yaml")}
        instead = re.search(rf"Choose {group}=(\w+)", message)
        assert instead is not None
        assert name not in choices
        assert instead[1] in choices


@pytest.mark.parametrize("word", ["decoder=median,mean", "trainer=auto", "wandb=auto", "auto", "decoder.k=5", ""])
def test_other_words_pass(word: str) -> None:
    check_choices([word])
