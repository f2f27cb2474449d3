"""Processes that decode images, so that a decoder that takes too long or crashes can be ended.

They import neither torch nor the application. Their answers are read as arrays and text only.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from geoguesser.arrays import ByteArray
from geoguesser.data.image_limits import BYTES_PER_PIXEL, TooLargeError
from geoguesser.data.images import ImageSpec, decode_rgb, decode_shrunk, read_header
from geoguesser.errors import first_line

log = logging.getLogger(__name__)

# Time for a process to start on a busy machine.
MAX_START_S = 60.0

# Memory for the libraries' other needs.
SPARE_BYTES = 2**28

Job = Callable[..., Sequence[ByteArray]]


class DecodingError(ValueError):
    """Raised for an image that cannot be decoded."""


def decode_views(data: bytes, specs: Sequence[ImageSpec], max_pixels: float) -> list[ByteArray]:
    """Decodes an image file to (3, S, S) uint8 for each spec.

    Raises:
        TooLargeError: It has more than `max_pixels` pixels, or exceeds another limit.
        ValueError: It is broken.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise TooLargeError(
            f"{header.width} x {header.height} pixels; the limit is {max_pixels / 1e6:g} megapixels"
        )
    return [spec.resize_chw(decode_rgb(data, header, spec.size)) for spec in specs]


def decode_picture(data: bytes, max_px: int) -> list[ByteArray]:
    """Decodes an image file to (H, W, 3) RGB of at most `max_px` pixels a side; ValueError if it is broken."""
    return [decode_shrunk(data, max_px)]


class Decoders:
    """Pool of decoder processes, each of which starts when it is needed and is replaced when it ends.

    Args:
        count: Number of processes.
        max_s: Maximum time of a job, in seconds.
        max_pixels: Maximum number of pixels of an image; the memory of a process is limited accordingly.
        max_bytes: Maximum size of a file.
    """

    def __init__(self, count: int, *, max_s: float, max_pixels: float, max_bytes: int) -> None:
        memory = int(max_pixels * max(BYTES_PER_PIXEL.values())) + 3 * max_bytes + SPARE_BYTES
        self._all = [DecoderProcess(max_s, memory) for _ in range(count)]
        # The last one that worked is taken first, so that others need not start.
        self._idle: LifoQueue[DecoderProcess] = LifoQueue()
        for decoder in self._all:
            self._idle.put(decoder)

    def run(self, job: Job, *args: Any) -> list[ByteArray]:
        """Runs a function of a module in a process, and returns its arrays. It blocks the calling thread.

        Raises:
            TooLargeError: The image exceeds a limit.
            DecodingError: The image is broken, or its decoding took too long or too much memory.
        """
        decoder = self._idle.get()
        try:
            return decoder.run(job, args)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """Ends the processes; jobs in progress raise DecodingError."""
        for decoder in self._all:
            decoder.close()


class DecoderProcess:
    """Process that decodes one image at a time."""

    def __init__(self, max_s: float, max_memory_bytes: int) -> None:
        self.max_s, self.max_memory_bytes = max_s, max_memory_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._process: Any = None
        self._connection: Any = None

    def run(self, job: Job, args: Sequence[Any]) -> list[ByteArray]:
        try:
            if self._process is None or not self._process.is_alive():
                self._start()
            self._connection.send((job, args))
            answer = self._receive(self.max_s)
        except (EOFError, OSError) as error:
            if not self._closed:
                log.warning("a decoder process has ended; the next photo starts another")
            self._stop()
            raise DecodingError("the decoder needed too much memory, or crashed") from error

        if answer[:1] == b"-":
            name, text = answer[1:].decode().split("\n", 1)
            raise (TooLargeError if name == TooLargeError.__name__ else DecodingError)(text)
        stream = io.BytesIO(answer)
        arrays = []
        while stream.tell() < len(answer):
            arrays.append(np.load(stream, allow_pickle=False))
        return arrays

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> None:
        # A fork would copy the locks of other threads.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        with self._lock:
            if self._closed:
                raise EOFError
            arguments = (other_end, self.max_memory_bytes)
            self._process = context.Process(target=_work, args=arguments, name="decoder", daemon=True)
            self._process.start()
        # Only the process has this end from now on, so that its own end is noticed.
        other_end.close()
        self._receive(MAX_START_S)

    def _receive(self, max_s: float) -> bytes:
        if not self._connection.poll(max_s):
            self._stop()
            raise DecodingError(f"it took more than {max_s:g} s")
        received: bytes = self._connection.recv_bytes()
        return received

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _work(connection: Connection, max_memory_bytes: int) -> None:
    """Runs jobs until the other end is closed."""
    # Ctrl-C goes to all processes of a terminal; the server ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(max_memory_bytes)
    connection.send_bytes(b"")

    while True:
        try:
            job, args = connection.recv()
        except EOFError:
            return
        try:
            stream = io.BytesIO()
            for array in job(*args):
                np.save(stream, array)
            answer = stream.getvalue()
        except MemoryError:
            answer = b"-MemoryError\nit needs too much memory"
        except Exception as error:
            # Pillow raises errors of many types for damaged files.
            answer = f"-{type(error).__name__}\n{first_line(error)}".encode(errors="backslashreplace")
        connection.send_bytes(answer)


def _limit_memory(num_bytes: int) -> None:
    """Limits the memory of this process to its present size and `num_bytes` more; on Linux only."""
    usage = Path("/proc/self/statm")
    if not usage.is_file():
        return
    import resource

    used = int(usage.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, used + num_bytes))
