"""Pushing to a hub: the hub's own client against a stub of its API, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stub import Hub, hub_stub

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


def pushed(folder: Path, home: Path, *words: str, **env: str) -> str:
    """What a push prints; the client's home is the test's own."""
    made = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *words],
        env=kept | made | env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "README.md").write_text("---\nlicense: mit\n---\nA card\n")
    (made / "config.json").write_text("{}")
    return made


@pytest.fixture
def hub() -> Hub:
    with hub_stub() as running:
        yield running


def test_a_folder_arrives_in_a_private_repository(folder: Path, hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN}
    found = pushed(folder, tmp_path / "home", "alice/model", "private", "private", **env)
    assert found == 2 * f"pushed to {hub.address}/alice/model\n"  # the second time it is there already
    assert hub.repositories == {"alice/model": True}
    assert hub.files == {"alice/model": {one.name: one.read_bytes() for one in folder.iterdir()}}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    hub.repositories["alice/model"] = False
    found = pushed(folder, tmp_path / "home", "alice/model", "private", **env)
    assert found.startswith("error: push=alice/model is a public repository, and push_private=true. Add")
    hub.refuses = True
    found = pushed(folder, tmp_path / "home", "alice/model", "public", **env)
    assert found.startswith(f"error: push=alice/model failed at {hub.address} (")
    assert found.endswith(f"The folder {folder} is whole; try again later.\n")


def test_without_a_token_or_a_network(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = pushed(folder, home, "alice/model", "private")
    assert found == (
        "error: push=alice/model needs a token that may write. Set HF_TOKEN, or log in once with: hf auth login\n"
    )
    found = pushed(folder, home, "alice/model", "private", HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    assert found.startswith("error: push=alice/model failed at http://127.0.0.1:9 (")


def test_what_is_no_repository_or_offline_is_refused_at_once() -> None:
    for name in ("model", "a/b/c", "a b/c", "", "https://x/y"):
        with pytest.raises(ConfigError, match=r"^push must be OWNER/NAME, got"):
            check_push(name)
    with pytest.raises(ConfigError, match=r"needs a network, and HF_HUB_OFFLINE says that there is none"):
        check_push("alice/model")
