"""Tensors and arrays of files that somebody else may have made: checkpoints, weights, and NumPy's formats.

An archive of torch or NumPy is opened only if its entries are not compressed and not longer than the file. The
pickle of a checkpoint is first read without torch: it may make nothing but plain values and tensors, and each
tensor must lie within an entry of the archive. So a file never takes much more memory than its own size.

Functions raise ValueError (or OSError) with the rest of a sentence, which the caller completes with the file.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from geoguesser.system.received_files import check_nesting, check_regular, open_regular

MAX_FILE_BYTES = 2**36
MAX_PICKLE_BYTES = 2**23
MAX_VALUES = 1_000_000
MAX_DEPTH = 64
# Tensors may share their memory, for example tied weights.
MAX_SHARING = 4
ELEMENT_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
}
# Opcodes that torch writes. Others make sets, objects and values of any length from a few bytes.
OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID,
    pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_LIST, pickle.EMPTY_DICT,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NONE, pickle.NEWTRUE,
    pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT,
    pickle.LONG_BINPUT,
)  # fmt: skip
MAX_DIMENSIONS = 64
# Signatures of the records at the end of an archive.
END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"

# Functions by which modules allocate their parameters.
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye)
# Temporary tensors and buffers that a network does not store.
SPARE_BYTES = 2**28


def load_tensors(path: Path, *, accept_legacy: bool = False) -> Any:
    """Loads a file of `torch.save` with tensors and plain values, on the CPU.

    `accept_legacy` also accepts files of torch before 1.6, which are no archives and hold their tensors as bytes.
    """
    with open_regular(path, MAX_FILE_BYTES) as stream:
        is_archive = stream.read(2) == b"PK"
        if not is_archive and not accept_legacy:
            rule = "it is no archive of torch 1.6 or later; if you trust it, load it with torch and save it again"
            raise ValueError(rule)
        if is_archive:
            _check_torch_archive(stream)
        stream.seek(0)
        return torch.load(stream, map_location="cpu", weights_only=True)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Loads a file of tensors by name; the format admits nothing else, and no tensor beyond the file's size."""
    from safetensors.torch import load_file

    check_regular(path, MAX_FILE_BYTES)
    return load_file(path)


def load_npz(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Loads some arrays of an .npz file; a missing one raises KeyError."""
    with open_regular(path, MAX_FILE_BYTES) as stream:
        with zipfile.ZipFile(stream) as archive:
            for entry in _list_entries(stream, archive):
                with archive.open(entry) as part:
                    _check_array(part, entry.file_size)
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}


def map_array(path: Path) -> npt.NDArray[Any]:
    """Maps the array of an .npy file into memory, read-only."""
    size = check_regular(path, MAX_FILE_BYTES)
    with path.open("rb") as part:
        _check_array(part, size)
    return np.lib.format.open_memmap(path, mode="r")


def limit_allocation(tensors: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Limits what modules allocate in a block to a few times the size of the tensors that are for them.

    A description that names a larger network than its weights are for then fails before the memory is taken.
    """
    return _AllocationLimit(SPARE_BYTES + MAX_SHARING * sum(tensor.nbytes for tensor in tensors))


class _AllocationLimit(TorchFunctionMode):
    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._left = self._max_bytes = max_bytes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            options = {name: value for name, value in kwargs.items() if name not in ("generator", "pin_memory")}
            self._take(func(*args, **(options | {"device": "meta"})).nbytes)
        result = func(*args, **kwargs)
        if func is Tensor.__deepcopy__:
            self._take(result.nbytes)
        return result

    def _take(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            rule = f"describes a network of more than {self._max_bytes:,} bytes"
            raise ValueError(f"{rule}, far more than its weights have")


def _list_entries(stream: IO[bytes], archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Returns the entries of an archive that is not compressed, as every reader finds them.

    Readers differ in where they look for the directory. Here it must end where the records of the end begin.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 98))
    tail = stream.read().rjust(98, b"\0")
    end, locator, end64 = tail[76:], tail[56:76], tail[:56]
    if locator.startswith(LOCATOR64):
        (end64_start,) = struct.unpack_from("<Q", locator, 8)
        length, start = struct.unpack_from("<QQ", end64, 40)
        is_plain = end64.startswith(END64) and end64_start == size - 98 == start + length
    else:
        length, start = struct.unpack_from("<II", end, 12)
        is_plain = start + length == size - 22
    if not (is_plain and end.startswith(END)):
        raise ValueError("is an archive with a part that nobody writes")

    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise ValueError("must be an archive without compression")
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise ValueError("must be an archive that names each entry once")
    if sum(max(entry.file_size, entry.compress_size) for entry in entries) > size:
        raise ValueError("holds more than the file has bytes")
    return entries


def _check_array(part: IO[bytes], size: int) -> None:
    """Checks that the values of an array of NumPy are as long as its header says, and no objects."""
    version = np.lib.format.read_magic(part)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(part)
    if dtype.hasobject or min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != size - part.tell():
        raise ValueError("holds an array that its header does not describe")


def _check_torch_archive(stream: IO[bytes]) -> None:
    with zipfile.ZipFile(stream) as archive:
        entries = _list_entries(stream, archive)
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ValueError("it was written by another program")
        data = archive.read(pickles[0])

    try:
        value = _DryUnpickler(data, sizes).load()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"it holds damaged values ({type(error).__name__})") from error
    check_nesting(value, MAX_DEPTH, MAX_VALUES)


class _Storage(NamedTuple):
    length: int
    element_bytes: int


class _TensorOutline:
    """Stands for a tensor while the pickle is checked."""


class _DryUnpickler(pickle._Unpickler):
    """Reads the pickle of `torch.save` without torch, and refuses everything but tensors and plain values.

    It is the version of Python's library in Python: the one in C takes memory by the numbers in the file.
    """

    dispatch: ClassVar[dict[int, Any]] = {opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in OPCODES}

    def __init__(self, data: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._sizes = sizes
        self._left = MAX_SHARING * sum(sizes.values())

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in ELEMENT_BYTES:
            return name
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return None

        functions: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": _make_dict,
            "torch._utils._rebuild_tensor_v2": self._check_tensor,
            "torch._utils._rebuild_parameter": _pass_first,
            "torch.device": _pass_first,
            "torch.Size": _pass_first,
            "_codecs.encode": self._encode,
        }
        if f"{module}.{name}" not in functions:
            raise ValueError(f"it holds {module}.{name}, which is no tensor and no plain value")
        return functions[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, length = pid
        element_bytes = ELEMENT_BYTES[storage_type]
        if kind != "storage" or type(length) is not int or self._sizes[f"data/{key}"] != length * element_bytes:
            raise ValueError("it holds a tensor that is not as long as its entry")
        return _Storage(length, element_bytes)

    def _encode(self, text: str, encoding: str) -> bytes:
        """Makes the bytes that protocol 2 of pickle writes as a text."""
        if encoding != "latin1":
            raise ValueError("it holds a text in an encoding that torch does not write")
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("it holds texts that are together longer than the file")
        return text.encode("latin1")

    def _check_tensor(self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _TensorOutline:
        # The product of many or of long numbers takes time by their square.
        if not isinstance(storage, _Storage) or max(len(size), len(stride)) > MAX_DIMENSIONS:
            raise ValueError("it holds a damaged tensor")
        if not all(type(number) is int and 0 <= number < 2**63 for number in (offset, *size, *stride)):
            raise ValueError("it holds a damaged tensor")

        length = math.prod(size)
        last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
        if length and (length > storage.length or last >= storage.length):
            raise ValueError("it holds a tensor that is longer than its entry")
        self._left -= length * storage.element_bytes
        if self._left < 0:
            raise ValueError("it holds tensors that are together longer than the file")
        return _TensorOutline()


def _make_dict() -> dict[Any, Any]:
    return OrderedDict()


def _pass_first(value: Any = None, *_: Any) -> Any:
    return value


def _check_keys(unpickler: Any, keys: list[Any]) -> None:
    # The hash of a tuple of tuples takes time for each of its leaves, of which shared ones are many.
    # That of a long integer takes time, too.
    if not all(
        isinstance(key, str | bytes | float | None) or (isinstance(key, int) and abs(key) < 2**64) for key in keys
    ):
        raise ValueError("it holds a mapping whose keys are no plain values")


def _load_setitem(unpickler: Any) -> None:
    _check_keys(unpickler, unpickler.stack[-2:-1])
    unpickler.load_setitem()


def _load_setitems(unpickler: Any) -> None:
    _check_keys(unpickler, unpickler.stack[::2])
    unpickler.load_setitems()


def _load_build(unpickler: Any) -> None:
    state, target = unpickler.stack[-1], unpickler.stack[-2]
    if not isinstance(state, dict) or not isinstance(target, OrderedDict | _TensorOutline):
        raise ValueError("it holds an object, which is no plain value")
    unpickler.load_build()


_DryUnpickler.dispatch[pickle.BUILD[0]] = _load_build
_DryUnpickler.dispatch[pickle.SETITEM[0]] = _load_setitem
_DryUnpickler.dispatch[pickle.SETITEMS[0]] = _load_setitems
