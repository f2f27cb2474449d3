"""Hub: an exported folder goes to a model hub, by the hub's own client. Tokens stay with that client.

Nothing is sent unless the user names a repository.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from geoguesser.errors import ConfigError, GeoguesserError, first_line

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKEN = re.compile(r"hf_\w+|Bearer \S+")


def check_push(repository: str) -> None:
    """Finds out before any work whether a folder could be pushed; asks no server.

    Raises:
        ConfigError: The name is none, the client is not installed, it is told to stay offline, or it has no token.
    """
    key = f"push={repository}"
    if not REPOSITORY_NAME.fullmatch(repository):
        raise ConfigError.at("push", "must be OWNER/NAME", found=repository)
    if find_spec("huggingface_hub") is None:
        raise ConfigError.at(key, "needs huggingface_hub, not installed", remedy="Install geoguesser[hub].")
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError.at(key, "needs a network, and HF_HUB_OFFLINE says that there is none")
    if not get_token():
        raise ConfigError.at(
            key, "needs a token that may write", remedy="Set HF_TOKEN, or log in once with: hf auth login"
        )


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Pushes a folder's files to a hub; `check_push` was asked before.

    Args:
        folder: What is pushed, all of it.
        repository: OWNER/NAME; it is made where it does not exist.
        private: Whether only its owner may see it; a repository that is there and public is then refused.

    Returns:
        The repository's address.

    Raises:
        GeoguesserError: The hub cannot be reached or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    key = f"push={repository}"
    try:
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        if private and not api.model_info(repository).private:
            raise ConfigError.at(
                key, "is a public repository, and push_private=true", remedy="Add push_private=false, or rename."
            )
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model exported by geoguesser")
    except GeoguesserError:
        raise
    except Exception as error:  # its client's own kinds depend on its version
        reason = TOKEN.sub("(secret)", first_line(error))
        raise GeoguesserError.at(
            key, f"failed at {api.endpoint} ({reason})", remedy=f"The folder {folder} is whole; try again later."
        ) from None
    return address
