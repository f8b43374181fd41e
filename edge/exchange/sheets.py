"""CSV and XLSX files as sheets of text, with limits on all that a stranger's file may hold.

What is written is safe to open in a spreadsheet: a text that would be taken for a formula is
marked with an apostrophe, which reading takes off again.
"""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from shared.errors import SpineError

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 128 * 1024 * 1024
MAX_ROWS: Final = 50_000
MAX_COLUMNS: Final = 200
MAX_CELL: Final = 2_000

_ZIP: Final = b"PK\x03\x04"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS: Final = ";\t,|"
_ENCODINGS: Final = ("utf-8-sig", "utf-16", "cp1252")


class SheetWrong(SpineError):
    """A file is not a table that can be read; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its heading, and rows of as many cells, each with the number of its line."""

    heading: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_sheet(data: bytes, *, starts_with: str = "") -> Sheet:
    """Read CSV or XLSX, told apart by their content; empty lines and those with `#` are passed.

    The heading is the first line, or the first whose first cell is `starts_with`. Raises
    `SheetWrong` if the file is too large, damaged, or has no heading.
    """
    if len(data) > MAX_FILE_BYTES:
        raise SheetWrong(f"the file has {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are read")
    lines = _from_xlsx(data) if data.startswith(_ZIP) else _from_csv(data)
    return _sheet(lines, starts_with.lower())


def write_csv(table: Iterable[Sequence[str | float | None]]) -> bytes:
    """Write rows as CSV in UTF-8 with its mark, separated by semicolons."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerows([_guarded(cell) for cell in row] for row in table)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def write_xlsx(table: Iterable[Sequence[str | float | None]], title: str = "points") -> bytes:
    """Write rows as one sheet of a workbook."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet(title)
    for row in table:
        sheet.append([_guarded(_exact(cell)) for cell in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _exact(cell: str | float | None) -> str | float | None:
    # A workbook keeps sixteen digits of a number: what has more is written as text.
    if isinstance(cell, str) or cell is None or float(f"{cell:.15g}") == cell:
        return cell
    return repr(cell)


def _guarded(cell: str | float | None) -> str | float | None:
    if isinstance(cell, str) and cell.startswith((*_FORMULA, "'")):
        return f"'{cell}"
    return cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def _sheet(lines: Iterator[tuple[int, list[str]]], starts_with: str) -> Sheet:
    heading: tuple[str, ...] | None = None
    rows: list[tuple[int, tuple[str, ...]]] = []
    for number, cells in lines:
        if not any(cells) or (cells[0].startswith("#") and not _starts(cells, starts_with)):
            continue
        if heading is None:
            heading = _heading(number, cells) if _starts(cells, starts_with) else None
            continue
        if len(rows) >= MAX_ROWS:
            raise SheetWrong(f"the file has more than {MAX_ROWS:,} rows: import it in parts")
        rows.append((number, _fitted(number, cells, len(heading))))
    if heading is None:
        wanted = f" whose first cell is {starts_with!r}" if starts_with else ""
        raise SheetWrong(f"the file has no heading{wanted}: its first line must name the columns")
    return Sheet(heading, tuple(rows))


def _starts(cells: Sequence[str], starts_with: str) -> bool:
    return not starts_with or cells[0].lstrip("# ").lower().startswith(starts_with)


def _heading(number: int, cells: list[str]) -> tuple[str, ...]:
    while cells and not cells[-1]:
        cells.pop()
    names = [cell.strip().lstrip("# ").lower() for cell in cells]
    if len(names) > MAX_COLUMNS:
        raise SheetWrong(f"line {number}: {len(names)} columns; at most {MAX_COLUMNS} are read")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise SheetWrong(f"line {number}: column {', '.join(twice)} is there twice")
    return tuple(names)


def _fitted(number: int, cells: list[str], width: int) -> tuple[str, ...]:
    if any(cells[width:]):
        raise SheetWrong(f"line {number}: more cells than the heading names columns")
    return tuple((cells + [""] * width)[:width])


def _cell(number: int, value: Any) -> str:
    text = "" if value is None else str(value).strip()
    if len(text) > MAX_CELL:
        raise SheetWrong(
            f"line {number}: a cell of {len(text):,} characters; {MAX_CELL:,} are read"
        )
    return _unguarded(text)


def _from_csv(data: bytes) -> Iterator[tuple[int, list[str]]]:
    text = _decoded(data)
    if "\0" in text:
        raise SheetWrong("the file is neither a CSV text nor an XLSX workbook")
    sample = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda sign: (sample.count(sign), sign == ";"))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, [_cell(reader.line_num, cell) for cell in cells]
    except csv.Error as error:
        raise SheetWrong(f"line {reader.line_num}: {error}") from error


def _decoded(data: bytes) -> str:
    for encoding in _ENCODINGS:
        if encoding == "utf-16" and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise SheetWrong("the file's characters cannot be read: save it as CSV in UTF-8")


def _from_xlsx(data: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise SheetWrong(f"the workbook unpacks to {unpacked:,} bytes: too large to read")
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, ParseError) as error:
        raise SheetWrong("the workbook is damaged: save it anew as XLSX, or as CSV") from error
    try:
        sheet = book.worksheets[0]
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            yield number, [_cell(number, cell) for cell in cells] or [""]
    except (IndexError, KeyError, ParseError, ValueError, zipfile.BadZipFile) as error:
        raise SheetWrong("the workbook's first sheet cannot be read: save it as CSV") from error
    finally:
        book.close()
