"""Writes the synthetic places into the current folder: 24 under places/, 8 more under more/.

The colours of a place's views depend on its position and on the heading, with noise, so that a network has
something to learn and no two places look alike.
"""

import csv
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

random = np.random.default_rng(20261130)
for root, count in (("places", 24), ("more", 8)):
    rows = []
    for _ in range(count):
        latitude, longitude = random.uniform(45.3, 45.8), random.uniform(15.6, 18.0)
        name = str(uuid.UUID(bytes=random.bytes(16), version=4))
        folder = Path(root) / "images" / name
        folder.mkdir(parents=True)
        colour = 60 + 140 * np.array([(latitude - 45.3) / 0.5, (longitude - 15.6) / 2.4, 0.5])
        for heading in (0, 90, 180, 270):
            tint = np.array([0, 0, heading / 6])
            blocks = colour + tint + random.normal(0, 40, (7, 7, 3))
            small = Image.fromarray(blocks.clip(0, 255).astype(np.uint8))
            small.resize((56, 56), Image.Resampling.BICUBIC).save(folder / f"{heading}.jpg", quality=80)
        rows.append((name, round(latitude, 6), round(longitude, 6)))
    with open(Path(root) / "data.csv", "w", newline="") as file:
        csv.writer(file).writerows([("uuid", "latitude", "longitude"), *rows])
