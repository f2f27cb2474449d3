"""A trained run, which takes about a second, and applications that serve it, in this process or on a socket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, compose
from starlette.testclient import TestClient
from support.app_server import build_app, serve_app

from geoguesser.app.limits import Limits
from geoguesser.app.registry import ServedModel
from geoguesser.commands.serve import load_models
from geoguesser.data.demo.dataset import get_demo_folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run folder."""
    from geoguesser.commands.train import run_training
    from geoguesser.system.log_filters import filter_logs

    filter_logs()
    folder = tmp_path_factory.mktemp("served") / "trained"
    run_training(compose(TINY), folder)
    return folder


@pytest.fixture(scope="session")
def models(trained) -> list[ServedModel]:
    return load_models([str(trained)], "cpu")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of the place folders that the run was trained on."""
    return get_demo_folder(places=60, seed=0, px=56) / "images"


@pytest.fixture(scope="session")
def place(photos) -> Path:
    """A place folder."""
    return min(photos.iterdir())


@pytest.fixture
def make_client(models) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of an application in this process, with arguments of `build_app`."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> TestClient:
            app = build_app(models, **settings)
            client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(make_client) -> TestClient:
    """A client of an application with default settings."""
    return make_client()


@pytest.fixture
def serve(models) -> Callable[..., AbstractContextManager[str]]:
    """Context manager that serves an application on a socket and yields its address."""

    def start(*, root: Path | None = None, **limits: Any) -> AbstractContextManager[str]:
        return serve_app(build_app(models, root=root, **limits), Limits(**limits))

    return start
