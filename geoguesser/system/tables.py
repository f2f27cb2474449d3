"""Tables that somebody else may have made: CSV and Parquet, with bounds on their size in memory."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO, Any

import pandas as pd

from geoguesser.system.received_files import open_regular

MAX_FILE_BYTES = 2**32
MAX_COLUMNS = 1000
# A file may take this much in memory, and more in proportion to its own size.
SPARE_BYTES, MAX_RATIO = 2**27, 16
MAX_FOOTER_BYTES = 2**23
# Levels of structs and lists in a footer; the format has seven.
MAX_DEPTH = 12
# Memory of a decimal or a date as an object of Python.
OBJECT_BYTES = 120
# Type of a page -> field of its own header: data, dictionary, data of version 2.
PAGE_FIELDS = {0: 5, 2: 7, 3: 8}
# Bytes of a page from which its header is read.
PAGE_HEAD_BYTES = 2**16
# Encodings of pages whose values are as long as their bytes: plain, dictionary, and those of numbers. Another one
# builds each text from the one before, so that a few bytes become megabytes.
ENCODINGS = (0, 2, 3, 4, 5, 6, 8, 9)


def read_csv(file: Path, *, sep: str = ",", **options: Any) -> pd.DataFrame:
    """Reads a CSV file with `pandas.read_csv`.

    Raises:
        ValueError, OSError: The file is no regular file, has too many columns, or cannot be read.
    """
    with open_regular(file, MAX_FILE_BYTES) as stream:
        # The first line that is not blank decides the columns, and the second one the index.
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        rows, columns = csv.reader(text, delimiter=sep), 0
        try:
            for _ in range(2):
                fields = next((row for row in rows if len(row) > 1 or "".join(row).strip()), [])
                columns = max(columns, len(fields))
                if len(fields) > MAX_COLUMNS:
                    raise ValueError(f"must have at most {MAX_COLUMNS:,} columns, got {len(fields):,}")
        except csv.Error as error:
            raise ValueError(str(error)) from error
        text.detach()

        # pandas fills rows that are too short.
        size, lines = stream.seek(0), 0
        while block := stream.read(2**24):
            size, lines = size + len(block), lines + block.count(b"\n") + block.count(b"\r")
        _check_memory(8 * columns * lines, SPARE_BYTES + MAX_RATIO * size)
        stream.seek(0)
        return pd.read_csv(stream, sep=sep, **options)


def read_parquet(file: Path) -> pd.DataFrame:
    """Reads a Parquet file of plain columns.

    Raises:
        ValueError, OSError: The file is no regular file, has other columns, is damaged, or too large in memory.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with open_regular(file, MAX_FILE_BYTES) as stream:
        file_bytes = stream.seek(0, io.SEEK_END)
        max_bytes = SPARE_BYTES + MAX_RATIO * file_bytes
        try:
            schema = pq.read_schema(stream)
            if len(set(schema.names)) < len(schema.names):
                # pyarrow takes the settings of the last one for all.
                raise ValueError("must name each column once")
            texts = [field.name for field in schema if _is_text(field.type)]
            parquet = pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False)
            metadata = parquet.metadata
            if not all(_is_plain(field.type) for field in schema) or metadata.num_columns > MAX_COLUMNS:
                raise ValueError(f"must have at most {MAX_COLUMNS:,} columns, of numbers and texts")

            chunks, rows = _read_chunks(stream, file_bytes)
            rows = max(rows, metadata.num_rows)
            _check_memory(rows * sum(OBJECT_BYTES if _is_object(field.type) else 8 for field in schema), max_bytes)
            total = 0
            for chunk in chunks:
                total += _sum_pages(stream, chunk, max_bytes)
                _check_memory(total, max_bytes)

            # Texts are read as their distinct values, and are long only once these are repeated.
            table = parquet.read().replace_schema_metadata(None)
            lengths = (
                pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
                for column in table.columns
                for chunk in column.chunks
                if pa.types.is_dictionary(chunk.type) and _is_text(chunk.type.value_type)
            )
            _check_memory(sum(lengths), max_bytes)
            return table.cast(schema.remove_metadata()).to_pandas()
        except (pa.ArrowException, NotImplementedError, MemoryError, OverflowError) as error:
            raise ValueError(f"is no usable Parquet file ({error})") from error


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _is_object(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_decimal(kind) or pa.types.is_temporal(kind)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null, _is_text)
    return any(test(kind.value_type if pa.types.is_dictionary(kind) else kind) for test in tests)


def _check_memory(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise ValueError(f"must take at most {max_bytes:,} bytes in memory for its size, needs {num_bytes:,}")


def _read_chunks(stream: IO[bytes], file_bytes: int) -> tuple[list[dict[int, Any]], int]:
    """Reads the metadata of all column chunks from the footer, and the number of rows of all groups.

    pyarrow's own objects for them end the process if the statistics of a chunk are damaged. Source of the numbers
    of fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
    """
    stream.seek(file_bytes - 8)
    length = int.from_bytes(stream.read(4), "little")
    if length > min(MAX_FOOTER_BYTES, file_bytes - 8):
        raise ValueError("holds a damaged footer")

    stream.seek(file_bytes - 8 - length)
    try:
        groups = _read_struct(stream.read(length), 0)[0].get(4, [])
        chunks = [column[3] for group in groups for column in group[1]]
        if sum(chunk[7] for chunk in chunks) > file_bytes:
            raise ValueError("holds columns that are together longer than the file")
        return chunks, sum(group[3] for group in groups)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("holds a damaged footer") from error


def _sum_pages(stream: IO[bytes], chunk: dict[int, Any], max_bytes: int) -> int:
    """Sums the sizes of a column's pages after decompression, from the headers that the decoder obeys."""
    total = 0
    try:
        position, dictionary = chunk[9], chunk.get(11) or 0
        position = dictionary if 0 < dictionary < position else position
        end = position + chunk[7]

        while position < end:
            stream.seek(position)
            header, length = _read_struct(stream.read(PAGE_HEAD_BYTES), 0)
            page = header[PAGE_FIELDS[header[1]]]
            encoding, sizes = page.get(4 if header[1] == 3 else 2), (header[2], header[3])
            if encoding not in ENCODINGS or min(sizes) < 0:
                raise ValueError("holds a page of an encoding that is not read; write it with the usual settings")
            total += header[2]
            position += length + header[3]
            _check_memory(total, max_bytes)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("holds a damaged page") from error
    return total


def _read_struct(data: bytes, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Reads a struct of Thrift's compact protocol: values by field, and its end.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    fields: dict[int, Any] = {}
    field = 0
    while (head := data[position]) != 0:
        position += 1
        kind, step = head & 15, head >> 4
        if step == 0:
            number, position = _read_varint(data, position)
            step = (number >> 1 ^ -(number & 1)) - field
        field += step

        if kind in (1, 2):
            fields[field] = kind == 1
        else:
            fields[field], position = _read_value(data, position, kind, depth)
    return fields, position + 1


def _read_value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    """Reads a number, text, list or struct; texts are skipped."""
    if kind in (1, 2, 3):
        return data[position], position + 1
    if kind in (4, 5, 6):
        number, position = _read_varint(data, position)
        return number >> 1 ^ -(number & 1), position
    if kind == 7:
        return None, position + 8
    if kind == 8:
        length, position = _read_varint(data, position)
        return None, position + length
    if kind == 12 and depth < MAX_DEPTH:
        return _read_struct(data, position, depth + 1)
    if kind not in (9, 10) or depth >= MAX_DEPTH:
        raise ValueError("holds a damaged header")

    count, item_kind = data[position] >> 4, data[position] & 15
    position += 1
    if count == 15:
        count, position = _read_varint(data, position)
    if count > len(data) - position:
        raise ValueError("holds a damaged header")
    items = []
    for _ in range(count):
        item, position = _read_value(data, position, item_kind, depth + 1)
        items.append(item)
    return items, position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("holds a damaged page")
