"""Pushing to a hub: the hub's client against a stub of its API, in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub_stub import HubStub, run_hub_stub

from geoguesser.errors import ConfigError
from geoguesser.exporting.hub import check_push

TOKEN = "hf_aVerySecretTokenOfTheTests"
SCRIPT = """
import sys
from pathlib import Path
from geoguesser.errors import GeoguesserError
from geoguesser.exporting.hub import check_push, push_folder
try:
    for private in sys.argv[3:]:
        check_push(sys.argv[2])
        print("pushed to", push_folder(Path(sys.argv[1]), sys.argv[2], private=private == "private"))
except GeoguesserError as error:
    print("error:", error)
"""


def push(folder: Path, *words: str, **env: str) -> str:
    """Runs SCRIPT with a home folder of its own for the client, and returns its output."""
    settings = {
        "HF_HOME": str(folder.parent / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), "alice/model", *words],
        env=inherited | settings | env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert TOKEN not in result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA card\n")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub() -> HubStub:
    with run_hub_stub() as running:
        yield running


def test_a_folder_arrives_in_a_private_repository(folder: Path, hub: HubStub) -> None:
    env = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN}

    # The second push finds the repository.
    output = push(folder, "private", "private", **env)
    assert output == 2 * f"pushed to {hub.address}/alice/model\n"
    assert hub.repositories == {"alice/model": True}
    assert hub.files == {"alice/model": {file.name: file.read_bytes() for file in folder.iterdir()}}
    assert hub.tokens == {f"Bearer {TOKEN}"}

    hub.repositories["alice/model"] = False
    output = push(folder, "private", **env)
    assert output.startswith("error: push=alice/model is a public repository, and push_private=true. Add")

    hub.refuses = True
    output = push(folder, "public", **env)
    assert output.startswith(f"error: push=alice/model failed at {hub.address} (")
    assert str(folder) in output


def test_a_push_without_a_token_or_a_network_is_an_error(folder: Path) -> None:
    assert push(folder, "private").startswith(
        "error: push=alice/model needs a token with write access. Set HF_TOKEN"
    )
    output = push(folder, "private", HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    assert output.startswith("error: push=alice/model failed at http://127.0.0.1:9 (")


@pytest.mark.parametrize("name", ["model", "a/b/c", "a b/c", "", "https://x/y"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^push must be OWNER/NAME, got"):
        check_push(name)


def test_the_offline_setting_is_respected() -> None:
    with pytest.raises(ConfigError, match=r"^push=alice/model needs a network.* HF_HUB_OFFLINE"):
        check_push("alice/model")
