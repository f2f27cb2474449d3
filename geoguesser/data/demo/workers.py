"""Draws synthetic places to files, in this process or in several.

Threads do not help, for drawing is many short steps that all hold the interpreter's lock. `fork` is unsafe
after torch has started threads, and multiprocessing's `spawn` runs the user's script again where that has
no guard. So the helpers are plain child processes of this module, which reads jobs from its standard
input; neither it nor what it imports knows of torch, and so they start in half a second.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import cv2
import numpy as np
import simplejpeg

from geoguesser.data.demo.renderer import HEADINGS, render_view
from geoguesser.data.demo.scene import Horizon, Image, Surroundings
from geoguesser.data.demo.scene_sampler import make_scene

JPEG_QUALITY = 90
JOBS_AHEAD = 8  # for each process, before the first answer is awaited


class Job(NamedTuple):
    """One place to draw: its folder, what decides its random numbers, its size and what the map says."""

    folder: str
    seed: int
    number: int
    px: int
    around: Surroundings
    horizons: tuple[Horizon, ...]


def draw_place(job: Job) -> list[Image]:
    """Draws four (px, px, 3) uint8 views, RGB, for HEADINGS."""
    scene = make_scene(job.around, np.random.default_rng((job.seed, job.number, 1)))
    return [
        render_view(scene, horizon, heading, job.px, np.random.default_rng((job.seed, job.number, 2, heading)))
        for heading, horizon in zip(HEADINGS, job.horizons, strict=True)
    ]


def write_place(job: Job) -> None:
    """Draws a place to `<folder>/<heading>.jpg`."""
    folder = Path(job.folder)
    folder.mkdir(exist_ok=True)
    for heading, view in zip(HEADINGS, draw_place(job), strict=True):
        (folder / f"{heading}.jpg").write_bytes(simplejpeg.encode_jpeg(view, quality=JPEG_QUALITY))


def draw_all(jobs: Iterator[Job], processes: int) -> Iterator[None]:
    """Draws all places; yields after each."""
    if processes < 2 or not sys.executable:
        with _single_threaded_opencv():
            for job in jobs:
                write_place(job)
                yield
        return
    with ExitStack() as stack:
        helpers = [stack.enter_context(_helper()) for _ in range(processes)]
        sent = 0
        for job in jobs:
            pickle.dump(job, cast(BinaryIO, helpers[sent % processes].stdin))
            cast(BinaryIO, helpers[sent % processes].stdin).flush()
            sent += 1
            if sent > JOBS_AHEAD * processes:
                _await(helpers[(sent - JOBS_AHEAD * processes - 1) % processes])
                yield
        for done in range(max(sent - JOBS_AHEAD * processes, 0), sent):
            _await(helpers[done % processes])
            yield


def _await(helper: subprocess.Popen[bytes]) -> None:
    if not cast(BinaryIO, helper.stdout).read(1):
        raise RuntimeError(f"A process that draws synthetic places ended with exit code {helper.wait()}.")


@contextmanager
def _helper() -> Iterator[subprocess.Popen[bytes]]:
    """A child process; it ends when its input does, and is ended where the caller stops early."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join((root, *filter(None, (os.environ.get("PYTHONPATH"),))))
    helper = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield helper
    finally:
        helper.kill()
        helper.communicate()


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """OpenCV's threads cost more than they gain on images so small."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child's part: a byte for each job done, until there are no more."""
    with _single_threaded_opencv():
        while True:
            try:
                job: Job = pickle.load(requests)
            except EOFError:
                return
            write_place(job)
            answers.write(b".")
            answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
