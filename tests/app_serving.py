"""Servers for tests: an application with some limits of its own, and one that listens on a real socket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoguesser.app.api import make_app
from geoguesser.app.limits import Limits
from geoguesser.app.registry import ServedModel
from geoguesser.app.server import find_address, listen, make_server
from geoguesser.app.service import Service

LOCAL = ["127.0.0.1", "localhost", "::1"]


def app_of(
    models: list[ServedModel], *, root: Path | None = None, hosts: list[str] | None = LOCAL, **limits: Any
) -> Any:
    """An application with some limits of its own."""
    return make_app(Service(models, Limits(**limits), root=root and root.resolve(), threads=1), hosts=hosts)


@contextlib.contextmanager
def serving(app: Any, limits: Limits) -> Iterator[str]:
    """Serves on a socket of this machine, in a thread; gives the address."""
    with listen("127.0.0.1", 0) as own:
        server = make_server(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield find_address(own)
        finally:
            server.should_exit = True
            thread.join(20)
