"""Lock files: one process at a time has the right to work on something on the disk."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path

log = logging.getLogger(__name__)

# A symbolic link in their place is refused.
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_WITHOUT_LOCKS = (ENOSYS, ENOLCK, ENOTSUP, EOPNOTSUPP)


class LocksUnsupportedError(OSError):
    """The file system, or Python on this system, has no locks."""


class FileLock:
    """Exclusive lock between processes, held until `release` or until the process ends.

    The library `filelock` takes the lock (flock on Unix). Processes forked meanwhile share it: the system frees it
    when the last one ends or the holder releases it.

    Args:
        path: Lock file; it is created, its folder must exist.
        required: Raise `LocksUnsupportedError` on a file system without locks; otherwise the lock then counts as
            free.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        self.path, self.required = path, required
        self._descriptor: int | None = None
        self._is_locked = False

    def try_acquire(self) -> bool:
        """Takes the lock unless another process holds it, and returns True if it is held now."""
        return self._acquire(blocking=False)

    def acquire(self, activity: str) -> None:
        """Takes the lock, waiting for as long as another process holds it.

        Args:
            activity: Activity of the holder, for the log: `embeds these views`.
        """
        if not self._acquire(blocking=False):
            log.info("waiting for another process that %s (%s)", activity, self.path)
            self._acquire(blocking=True)

    def release(self, *, remove: bool = False) -> None:
        """Frees the lock, without effect if it is not held, and removes the lock file if `remove` is true."""
        if self._descriptor is None:
            return

        # While it is still locked: a process that waits for the removed file notices and opens the new one.
        if remove and self._is_locked:
            with suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor, self._is_locked = None, False

    def write_note(self, text: str) -> None:
        """Writes a line about the holder into the lock file; only while the lock is held."""
        assert self._descriptor is not None
        data = f"{text}\n".encode()

        # In this order a full disk, which has no room for a new block, still takes a note over an old one.
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, data)
        os.ftruncate(self._descriptor, len(data))

    def read_note(self) -> str:
        """Returns the text of the holder's `write_note`, or an empty string."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _acquire(self, *, blocking: bool) -> bool:
        while True:
            descriptor = os.open(self.path, _OPEN, 0o666)
            try:
                is_locked = self._lock(descriptor, blocking=blocking)
                if is_locked is None or (is_locked and self._is_current(descriptor)):
                    self._descriptor, self._is_locked = descriptor, bool(is_locked)
                    return True
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

            # Locked, but the last holder has removed this file meanwhile: take the one that is there now.
            if not is_locked:
                return False

    def _lock(self, descriptor: int, *, blocking: bool) -> bool | None:
        """Returns True if the descriptor is locked now, or None on a file system without locks."""
        # Entry points import this module, and most processes never lock.
        from filelock import lock_descriptor

        try:
            return lock_descriptor(descriptor, blocking=blocking)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            if self.required:
                raise LocksUnsupportedError(error.errno, error.strerror, str(self.path)) from error
            log.debug("%s cannot be locked: %s", self.path, error)
            return None

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False
