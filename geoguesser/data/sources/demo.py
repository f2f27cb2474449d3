"""Source of the synthetic demo country, `data=demo`."""

from __future__ import annotations

from typing import Unpack

from tqdm import tqdm

from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.sources.base import DEMO
from geoguesser.data.sources.places import FileSettings, PlacesDataModule


class DemoDataModule(PlacesDataModule):
    """Places of the synthetic country, `data=demo`, rendered into the cache at their first use.

    Views are `px` pixels high and wide. ConfigError is raised if `data.places`, `data.px` or `data.demo_seed` is
    out of range.
    """

    source = DEMO

    def __init__(self, *, places: int, px: int, demo_seed: int = 0, **settings: Unpack[FileSettings]) -> None:
        with tqdm(desc="rendering the synthetic country", unit=" places", disable=None, leave=False) as bar:

            def update_bar(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            root = ensure_demo(places=places, seed=demo_seed, px=px, progress=update_bar)
        super().__init__(roots=[str(root)], **settings)
