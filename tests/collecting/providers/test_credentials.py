"""Keys: where they may come from, and that no message shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoguesser.collecting.providers.credentials import check_no_secrets, read_key
from geoguesser.errors import ConfigError, MissingFileError
from geoguesser.system.secret_values import SecretRedactor

KEY = "AIzaSyTESTKEY-not-a-real-one-0123456789ab"


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert read_key("provider.key", variable="SOME_KEY", file=None) == KEY
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match=r"^provider\.key is missing: the environment variable SOME_KEY"):
        read_key("provider.key", variable="SOME_KEY", file=None)
    assert read_key("provider.key", variable="SOME_KEY", file=None, required=False) == ""


def test_from_a_file_that_only_its_owner_reads(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    for rights in (0o644, 0o640, 0o604, 0o620):
        file.chmod(rights)
        with pytest.raises(ConfigError, match=r"key_file must be a file that only its owner can read.*chmod") as e:
            read_key("provider.key", variable="SOME_KEY", file=str(file))
        assert KEY not in str(e.value)
    file.chmod(0o600)
    assert read_key("provider.key", variable="SOME_KEY", file=str(file)) == KEY
    with pytest.raises(MissingFileError, match=r"provider\.key_file must name an existing file"):
        read_key("provider.key", variable="SOME_KEY", file=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"provider\.key_file must be the path of a file"):
        read_key("provider.key", variable="SOME_KEY", file=str(tmp_path))


@pytest.mark.parametrize("content", ["", "short", "two words here", "two\nlines-of-it", "kéy-with-accents"])
def test_what_is_no_key_is_refused_without_showing_it(content: str, tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="must hold one key of at least 8 characters") as error:
        read_key("provider.key", variable="SOME_KEY", file=str(file))
    assert not content or content not in str(error.value)


def test_a_key_in_place_of_a_name_is_refused_without_showing_it():
    for given in ({"variable": KEY, "file": None}, {"variable": "SOME_KEY", "file": KEY}):
        with pytest.raises(ConfigError, match="not shown") as error:
            read_key("provider.key", **given)
        assert KEY not in str(error.value)


@pytest.mark.parametrize("value", [KEY, f"https://host/?key={KEY}", "MLY|1234567890123456|abc"])
def test_a_config_with_a_key_anywhere_is_refused(value: str):
    with pytest.raises(
        ConfigError, match=r"^filters\.existing\[1\]\.name looks like a key, and is not shown"
    ) as error:
        check_no_secrets({"out": "a", "filters": {"existing": ["b", {"name": value}]}})
    assert value not in str(error.value)
    check_no_secrets({"out": "AIza", "n": 3, "none": None})


def test_keys_are_hidden_in_every_form():
    redactor = SecretRedactor(["MLY|123|a+b/c=", ""])
    text = "a MLY|123|a+b/c= b MLY%7C123%7Ca%2Bb%2Fc%3D c"
    assert redactor.redact(text) == "a *** b *** c"
    assert redactor.occurs_in(text)
    assert not redactor.occurs_in(redactor.redact(text))
    assert SecretRedactor().redact("text") == "text"
