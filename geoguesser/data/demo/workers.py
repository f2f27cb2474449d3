"""Draws synthetic places to files, in this process or in child processes that run this module.

Threads would wait for the interpreter's lock. `fork` is unsafe after torch has started threads, and `spawn` of
multiprocessing runs the user's script again. The module imports no torch, so that a worker starts quickly.
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

# Jobs sent to each process before the first answer is awaited.
MAX_JOBS_AHEAD = 8


class Job(NamedTuple):
    """Place to draw: its folder, seed, number, size of views, surroundings, and horizon for each heading."""

    folder: str
    seed: int
    number: int
    px: int
    surroundings: Surroundings
    horizons: tuple[Horizon, ...]


def draw_place(job: Job) -> list[Image]:
    """Draws four (px, px, 3) uint8 views in RGB, at `HEADINGS`."""
    scene = make_scene(job.surroundings, np.random.default_rng((job.seed, job.number, 1)))
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
    """Draws all places, and yields after each."""
    if processes < 2 or not sys.executable:
        with _single_threaded_opencv():
            for job in jobs:
                write_place(job)
                yield
        return

    # Jobs are dealt out in turns, and answers are read in the same order.
    with ExitStack() as stack:
        workers = [stack.enter_context(_start_worker()) for _ in range(processes)]
        sent = 0
        for job in jobs:
            pickle.dump(job, cast(BinaryIO, workers[sent % processes].stdin))
            cast(BinaryIO, workers[sent % processes].stdin).flush()
            sent += 1
            if sent > MAX_JOBS_AHEAD * processes:
                _wait_for_answer(workers[(sent - MAX_JOBS_AHEAD * processes - 1) % processes])
                yield
        for done in range(max(sent - MAX_JOBS_AHEAD * processes, 0), sent):
            _wait_for_answer(workers[done % processes])
            yield


def _wait_for_answer(worker: subprocess.Popen[bytes]) -> None:
    if not cast(BinaryIO, worker.stdout).read(1):
        raise RuntimeError(f"A process that draws synthetic places ended with exit code {worker.wait()}.")


@contextmanager
def _start_worker() -> Iterator[subprocess.Popen[bytes]]:
    """Starts a child process, which ends with its input, or is killed if the caller stops early."""
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join((root, *filter(None, (os.environ.get("PYTHONPATH"),))))
    worker = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Draws jobs in a child process, and answers each with one byte, until the input ends."""
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
