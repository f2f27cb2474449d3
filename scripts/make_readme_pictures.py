"""Makes docs/pictures: views of the synthetic demo, maps of a run, and the top of a data report.

    python -m geoguesser.prepare data=demo data.places=300 split=blocks out=STORE
    python scripts/make_readme_pictures.py outputs/DATE/TIME STORE/report.html

A screenshot of the report is made by `chromium`, which must be on the path. No picture shows real photographs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from geoguesser.data.demo.dataset import ensure_demo

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
# Rows of the demo with seed 0: the coast, the plain in winter, the mountains.
ROWS = (1, 4, 5)
GAP_PX = 6


def load_strip(root: Path, uuid: str) -> Any:
    """Returns the four views of a place side by side, with white gaps."""
    folder = root / "images" / uuid
    views: list[Any] = [cv2.imread(str(folder / f"{heading}.jpg")) for heading in (0, 90, 180, 270)]
    gap = np.full((views[0].shape[0], GAP_PX, 3), 255, np.uint8)
    return np.hstack([part for view in views for part in (view, gap)][:-1])


def save_screenshot(page: Path, target: Path) -> None:
    """Saves the top of a page, 1,200 pixels wide, by headless Chromium."""
    with tempfile.TemporaryDirectory() as home:
        offline = (
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        )

        size = ("--window-size=1200,1560", "--hide-scrollbars", f"--screenshot={target}")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *offline, *size]
        subprocess.run(
            [*command, f"--user-data-dir={home}", page.resolve().as_uri()], check=True, capture_output=True
        )


def main(run: Path, report: Path) -> None:
    root = ensure_demo()
    table = pd.read_csv(root / "data.csv")
    strips = [load_strip(root, table["uuid"][row]) for row in ROWS]
    gap = np.full((GAP_PX, strips[0].shape[1], 3), 255, np.uint8)

    PICTURES.mkdir(parents=True, exist_ok=True)
    sheet: Any = np.vstack([part for strip in strips for part in (strip, gap)][:-1])
    cv2.imwrite(str(PICTURES / "demo.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])

    for name in ("grid", "arrows"):
        shutil.copyfile(run / "pictures" / f"{name}.png", PICTURES / f"{name}.png")
    save_screenshot(report, PICTURES / "report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
