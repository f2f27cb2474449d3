"""Applications with limits set by the test, in this process or behind a socket."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from geoguesser.app.access import Access
from geoguesser.app.api import make_app
from geoguesser.app.limits import Limits
from geoguesser.app.middleware import LOCAL_HOSTS
from geoguesser.app.registry import ServedModel
from geoguesser.app.server import find_address, listen, make_server
from geoguesser.app.service import Service
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictor import Predictor
from support.toy_run import IMAGE, REGION, toy_network
from support.waiting import wait_until


def build_app(
    models: list[ServedModel],
    *,
    root: Path | None = None,
    hosts: Collection[str] | None = LOCAL_HOSTS,
    access: Access | None = None,
    **limits: Any,
) -> Any:
    """Builds an application; further keyword arguments are fields of `Limits`."""
    service = Service(models, Limits(**limits), root=root and root.resolve(), threads=1)
    return make_app(service, hosts=hosts, access=access)


def make_toy_models(**settings: Any) -> list[ServedModel]:
    """Makes a model named `toy` with random weights; keyword arguments are fields of `ServedModel`."""
    return [ServedModel("toy", Ensemble([Predictor(toy_network(), REGION, IMAGE)]), **settings)]


@contextlib.contextmanager
def serve_models(
    models: list[ServedModel], *, root: Path | None = None, access: Access | None = None, **limits: Any
) -> Iterator[str]:
    """Serves models on a local socket, in a thread, and yields the address."""
    with listen("127.0.0.1", 0) as listener:
        server = make_server(build_app(models, root=root, access=access, **limits), Limits(**limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive())
        assert thread.is_alive()
        try:
            yield find_address(listener)
        finally:
            server.should_exit = True
            thread.join(20)
