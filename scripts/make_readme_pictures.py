"""Make docs/pictures: views of the synthetic demo, the maps of a run folder, the top of a data report.

    python -m geoguesser.prepare data=demo data.places=300 split=blocks out=STORE
    python scripts/make_readme_pictures.py outputs/DATE/TIME STORE/report.html

The report is photographed by Chromium, from Debian's package or wherever `chromium` is found.
No picture here comes from real photographs.
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
SHOWN = (1, 4, 5)  # places of the first demo seed: the coast, the plain in winter, the mountains
GAP = 6


def views_of(root: Path, uuid: str) -> Any:
    """The four views of a place side by side, white between them."""
    folder = root / "images" / uuid
    views: list[Any] = [cv2.imread(str(folder / f"{heading}.jpg")) for heading in (0, 90, 180, 270)]
    gap = np.full((views[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for view in views for part in (view, gap)][:-1])


def photograph(page: Path, target: Path) -> None:
    """The top of a page, 1,200 pixels wide, by headless Chromium."""
    with tempfile.TemporaryDirectory() as home:
        quiet = (
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        )
        size = ("--window-size=1200,1560", "--hide-scrollbars", f"--screenshot={target}")
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *quiet, *size]
        subprocess.run(
            [*words, f"--user-data-dir={home}", page.resolve().as_uri()], check=True, capture_output=True
        )


def main(run: Path, report: Path) -> None:
    root = ensure_demo()
    table = pd.read_csv(root / "data.csv")
    rows = [views_of(root, table["uuid"][place]) for place in SHOWN]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    PICTURES.mkdir(parents=True, exist_ok=True)
    sheet: Any = np.vstack([part for row in rows for part in (row, gap)][:-1])
    cv2.imwrite(str(PICTURES / "demo.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    for name in ("grid", "arrows", "errors", "curves"):
        shutil.copyfile(run / "pictures" / f"{name}.png", PICTURES / f"{name}.png")
    photograph(report, PICTURES / "report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
