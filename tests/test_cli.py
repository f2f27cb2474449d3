"""Checks of the command line before Hydra reads it."""

from __future__ import annotations

import pytest

from geoguesser.cli import check_choices
from geoguesser.errors import ConfigError


@pytest.mark.parametrize(
    "word", ["decoder=auto", "decoder=median,auto", "decoder=choice(auto,mean)", "+decoder=auto"]
)
def test_a_removed_choice_is_refused_with_what_to_use_instead(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^decoder=auto was removed in version 0\.2\. Choose decoder=median"):
        check_choices(["resume=outputs/a", word])


@pytest.mark.parametrize("word", ["decoder=median,mean", "trainer=auto", "wandb=auto", "auto", "decoder.k=5", ""])
def test_other_words_pass(word: str) -> None:
    check_choices([word])
