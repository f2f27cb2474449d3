"""Pushes an exported folder to a model hub, with the hub's own client. Access tokens stay with that client."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from geoguesser.errors import ConfigError, GeoguesserError, first_line

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKEN = re.compile(r"hf_\w+|Bearer \S+")


def check_push(repository: str) -> None:
    """Raises ConfigError if a folder could not be pushed to OWNER/NAME. Contacts no server."""
    key = f"push={repository}"
    if not REPOSITORY_NAME.fullmatch(repository):
        raise ConfigError.at("push", "must be OWNER/NAME", found=repository)
    if find_spec("huggingface_hub") is None:
        raise ConfigError.at(key, "needs huggingface_hub, not installed", remedy="Install geoguesser[hub].")

    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError.at(key, "needs a network, which HF_HUB_OFFLINE switches off")
    if not get_token():
        remedy = "Set HF_TOKEN, or log in once with: hf auth login"
        raise ConfigError.at(key, "needs a token with write access", remedy=remedy)


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Pushes all files of a folder to the repository OWNER/NAME, made if necessary, and returns its address.

    Call `check_push` first. With `private`, an existing public repository is refused. Raises GeoguesserError if
    the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    key = f"push={repository}"
    try:
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        if private and not api.model_info(repository).private:
            remedy = "Add push_private=false, or rename."
            raise ConfigError.at(key, "is a public repository, and push_private=true", remedy=remedy)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model exported by geoguesser")
    except GeoguesserError:
        raise
    except Exception as error:
        # The classes of the client's errors depend on its version, and their messages may show the token.
        reason = TOKEN.sub("(secret)", first_line(error))
        remedy = f"The folder {folder} is complete; try again later."
        raise GeoguesserError.at(key, f"failed at {api.endpoint} ({reason})", remedy=remedy) from None
    return address
