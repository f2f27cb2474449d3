"""Atomic writes: a file has its old contents or all of its new ones, whatever happens in between.

New contents go to a temporary file in the same folder, which a rename then puts in place. The temporary file has a
random name and is created exclusively, so a symbolic link or file that somebody placed there is never written to.
A process that is killed can leave its temporary file behind, as `.NAME.RANDOM.part`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from geoguesser.errors import StoreError
from geoguesser.system.secret_values import redact

if TYPE_CHECKING:
    import pandas as pd

TEMPORARY_NAME_PATTERN = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{16}\.part")

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

# Windows lacks O_NOFOLLOW and would translate line ends without O_BINARY; other systems lack O_BINARY.
_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Replacement:
    """Temporary file that replaces another file when its contents are complete.

    Use `open_replacement` or `replace_file` if one `with` block contains all of the writing.

    Args:
        path: File to write or replace; its folder must exist.
        mode: `w` for UTF-8 text, `wb` for bytes. Line ends are written as they are given.
        durable: Flush contents and name to the disk, so that the file also survives a power failure.
        exclusive: True if the caller holds a lock, so that no other process writes this file. Temporary files that
            a killed process left are then removed.

    Attributes:
        stream: Open temporary file, at the path `temporary`.
    """

    def __init__(
        self, path: Path, mode: Literal["w", "wb"] = "wb", *, durable: bool = False, exclusive: bool = False
    ) -> None:
        self.path, self.durable = path, durable
        if exclusive:
            remove_temporaries(path)

        self.temporary, descriptor = _create_temporary(path)
        text: dict[str, Any] = {"encoding": "utf-8", "newline": ""} if mode == "w" else {}
        self.stream: IO[Any] = os.fdopen(descriptor, mode, **text)

    def commit(self) -> None:
        """Renames the temporary file to `path`."""
        if self.durable:
            flush_to_disk(self.stream)
        # Windows does not rename open files.
        self.stream.close()
        os.replace(self.temporary, self.path)

        # The rename must be flushed too; otherwise a power failure can undo it.
        if self.durable:
            _flush_folder(self.path.parent)

    def discard(self) -> None:
        """Removes the temporary file; without effect after `commit`."""
        # Closing writes the rest of the buffer, which fails if the disk is full.
        with suppress(OSError):
            self.stream.close()
        with suppress(OSError):
            self.temporary.unlink()


@overload
def open_replacement(
    path: Path, mode: Literal["wb"] = "wb", *, durable: bool = False, exclusive: bool = False
) -> AbstractContextManager[IO[bytes]]: ...
@overload
def open_replacement(
    path: Path, mode: Literal["w"], *, durable: bool = False, exclusive: bool = False
) -> AbstractContextManager[IO[str]]: ...
@contextmanager
def open_replacement(
    path: Path, mode: Literal["w", "wb"] = "wb", *, durable: bool = False, exclusive: bool = False
) -> Iterator[IO[Any]]:
    """Opens a temporary file for writing; it replaces `path` when the block ends without an error.

    The arguments are those of `Replacement`. The file keeps its old contents if it cannot be written.
    """
    replacement = Replacement(path, mode, durable=durable, exclusive=exclusive)
    try:
        yield replacement.stream
        replacement.commit()
    finally:
        replacement.discard()


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yields the path of an empty temporary file, which replaces `path` when the block ends without an error.

    For functions that take a path instead of an open file. Otherwise use `open_replacement`.
    """
    replacement = Replacement(path)
    try:
        yield replacement.temporary
        replacement.commit()
    finally:
        replacement.discard()


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder, which replaces the folder `path` when the block ends without an error.

    Missing parents of `path` are created. A reader can find no folder for the moment between the removal of the
    old one and the rename, but never an incomplete one. No other process may write `path` at the same time:
    temporary folders that a killed process left are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path)
    temporary = _name_temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes, *, durable: bool = False, exclusive: bool = False) -> None:
    """Writes bytes atomically; see `Replacement`."""
    with open_replacement(path, durable=durable, exclusive=exclusive) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically, without the secrets of the environment (`secret_values.redact`)."""
    with open_replacement(path, "w") as stream:
        stream.write(redact(text))


def write_json(path: Path, value: Any, *, indent: int = 2) -> None:
    """Writes JSON atomically. Raises ValueError for a number that is NaN or infinite, which JSON lacks."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame, *, for_people: bool = False) -> None:
    """Writes a table as CSV atomically, without its index; numbers have 7 decimals (about 1 cm of latitude).

    In a table `for_people`, which spreadsheets open, a quote precedes texts that a spreadsheet would run as a
    formula because they start with =, +, -, @, a tab or a line break (OWASP, "CSV Injection"). Numbers stay.
    """
    if for_people:
        texts = table.select_dtypes(include=["object", "string"])
        table = table.assign(**{str(name): texts[name].map(_quote_formula) for name in texts})
    write_text(path, table.to_csv(index=False, float_format="%.7f", lineterminator="\n"))


def _quote_formula(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def flush_to_disk(stream: IO[Any]) -> None:
    """Flushes an open file to the disk, so that its contents survive a power failure."""
    stream.flush()
    os.fsync(stream.fileno())


def refuse_links(folder: Path) -> None:
    """Checks a folder of earlier results before it is written to again.

    A link in it would let this process overwrite or remove files elsewhere, and a pipe in place of a log would
    block it. W&B makes links below `wandb/`, where each run writes to a new folder.

    Raises:
        StoreError: Something in it, at any depth except below `wandb/`, is a symbolic link, a pipe or a device.
    """
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink():
                remedy = "Replace it by the file or folder that it names."
                raise StoreError.at(str(path), "must not be a symbolic link", remedy=remedy)
            if not (path.is_file() or path.is_dir()):
                raise StoreError.at(str(path), "must be a file or a folder", remedy="Remove it.")
        folders[:] = (name for name in folders if name != "wandb")


def remove_temporaries(path: Path) -> None:
    """Removes temporary files and folders of `path` that killed processes left.

    Earlier versions of this package named them without a random part.
    """
    prefix = f".{path.name}."
    for other in os.listdir(path.parent) if path.parent.is_dir() else []:
        if other.startswith(prefix) and (get_target_name(other) == path.name or other == f"{prefix}part"):
            temporary = path.with_name(other)
            if temporary.is_dir() and not temporary.is_symlink():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def get_target_name(name: str) -> str:
    """Returns the name of the file that a temporary file was to replace; other names are returned unchanged."""
    match = TEMPORARY_NAME_PATTERN.fullmatch(name)
    return match["target"] if match else name


def _name_temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Returns a new file beside `path` and its descriptor. Its permissions follow from the umask."""
    while True:
        temporary = _name_temporary(path)
        try:
            return temporary, os.open(temporary, _CREATE_FLAGS, 0o666)
        except FileExistsError:
            # Somebody placed a file or a link under this name: try another.
            continue


def _flush_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk, except on systems that cannot open folders, such as Windows."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
