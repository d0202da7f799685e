"""Delimited files read a block at a time by pandas' own parser, typed as ``values`` says.

Only blocks that are regular (``blocks``) go that way, and only the columns that are wanted. What pandas cannot be
trusted with is read as text and given to ``values``, each different text once; everything else is read by the
reference reader, so that every answer is its answer.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from collections.abc import Generator, Iterator
from typing import Any

from . import blocks, tables, values, vectors
from .blocks import Block
from .delimited import Delimited
from .errors import DataError, Problems
from .sources import DataFile, Source
from .vectors import Chunk, Column

PIECE = 100_000  # rows of the reference reader turned into columns at a time
WORDS = ["", "nan", "NaN", "NAN", "NA", "na", "N/A", "n/a", "#N/A", "null", "NULL", "Null", "none", "None", "?", "-"]
DTYPES = {"integer": "int64", "float": "float64", "text": object}


def of_files(
    definition: dict[str, Any], source: Source, files: list[DataFile], problems: Problems, wanted: set[str]
) -> Iterator[Chunk]:
    """The typed rows of a settled definition before its steps; ``wanted``: the columns needed."""
    if tables.format_of(definition) != "delimited" or not blocks.readable(definition["source"]):
        yield from _reference(definition, tables.typed_rows(definition, source, problems, files), wanted)
        return
    for file in files:
        yield from Reader(definition, source, file, problems, wanted).chunks()


def _reference(definition: dict[str, Any], rows: Iterator[Any], wanted: set[str]) -> Iterator[Chunk]:
    places = [at for at, one in enumerate(definition["schema"]) if one["name"] in wanted]
    while True:
        piece = list(itertools.islice(rows, PIECE))
        if not piece:
            return
        columns = {}
        for at in places:
            one = definition["schema"][at]
            columns[one["name"]] = vectors.column([row[at] for row in piece], one["type"])
        yield Chunk(len(piece), columns)


class Reader:
    """One file. ``modes``: how pandas reads each place of a row, as simple as the blocks so far allowed."""

    def __init__(
        self, definition: dict[str, Any], source: Source, file: DataFile, problems: Problems, wanted: set[str]
    ) -> None:
        self.definition, self.source, self.file, self.problems = definition, source, file, problems
        self.wanted = wanted
        self.options: dict[str, Any] = definition["source"]
        all_of_them = self.options["on_error"] != "null"  # a value of any column may then drop the row
        self.schema = [one for one in definition["schema"] if all_of_them or one["name"] in wanted]
        self.names: list[str] = []
        self.fixed: dict[str, Any] = {}  # the columns that the file's path gives
        self.modes: dict[int, str] = {}

    def chunks(self) -> Iterator[Chunk]:
        found = Problems()
        with tables.opened(self.source, self.file) as stream:
            table = Delimited(stream, self.file.path, self.options, found)
        self.names = table.names
        lines = table.header_line if self.options["header"] else self.options["skip_rows"]
        plain = bool(table.names) and all(one["kind"] == "duplicate" for one in found.list()) and self._fix()
        if plain:
            try:
                if (yield from self._fast(found, lines)):
                    return
            except (gzip.BadGzipFile, EOFError) as error:
                shown = self.file.path
                raise DataError(f"{shown} is not a whole gzip file: {error}.", "incomplete", shown) from error
        rows = tables.typed_rows(self.definition, self.source, self.problems, [self.file])
        yield from _reference(self.definition, rows, self.wanted)

    def _fast(self, found: Problems, lines: int) -> Generator[Chunk, None, bool]:
        """False: nothing was given out, the whole file is for the reference reader."""
        with tables.opened(self.source, self.file) as stream:
            held, whole = blocks.begin(stream, lines, self.options["encoding"])
            if whole:
                for one in found.list():
                    where = {key: one[key] for key in ("file", "line", "column")}
                    self.problems.add(one["kind"], one["text"], count=one["count"], **where)
                yield from self._blocks(stream, held, lines)
        return whole

    def _fix(self) -> bool:
        """Settles what the path gives, and the modes; False where a value of the path does not fit."""
        given = tables.given_by_path(self.definition, self.file)
        for one in self.definition["schema"]:
            if one["source"] in given:
                value = tables.fitted(given[one["source"]], one["type"], values.reader(one))
                if value is tables.MISFIT:
                    return False
                self.fixed[one["name"]] = value
        for one in self.schema:
            if one["source"] in self.names and one["name"] not in self.fixed:
                place = self.names.index(one["source"])
                mode = one["type"] if one["type"] in DTYPES else "text"
                self.modes[place] = mode if self.modes.get(place, mode) == mode else "text"
        return True

    def _blocks(self, stream: Any, held: bytes, lines: int) -> Iterator[Chunk]:
        for block in blocks.ahead(blocks.blocks(stream, held, lines, len(self.names), self.options)):
            if block.rest:
                yield from self._referred(io.BufferedReader(blocks.Rest(block.raw, stream)), block.passed)
                return
            chunk = None if block.ends is None else self._read(block)
            if chunk is None:
                yield from self._referred(io.BytesIO(block.raw), block.passed)
            else:
                yield chunk

    def _referred(self, stream: Any, passed: int) -> Iterator[Chunk]:
        table = Delimited(stream, self.file.path, self.options, self.problems, self.names, passed)
        lines = ((line, dict(zip(self.names, row))) for line, row in table.rows())
        rows = tables.file_rows(self.definition, self.file, lines, self.problems)
        yield from _reference(self.definition, rows, self.wanted)

    def _read(self, block: Block) -> Chunk | None:
        """None: the reference reader must have a look."""
        import numpy as np

        count = len(block.ends)
        try:
            frame = self._parsed(block)
        except UnicodeError:
            return None
        if frame is None or len(frame) != count:
            return None
        columns: dict[str, Column] = {}
        misfits: dict[str, Any] = {}
        for one in self.schema:
            column, wrong = self._column(one, frame, block, count)
            columns[one["name"]] = column
            if wrong is not None and wrong.any():
                misfits[one["name"]] = wrong
        choice = self.options["on_error"]
        if misfits and choice == "fail":
            return None
        self._tell(misfits, block)
        chunk = Chunk(count, columns)
        if misfits and choice == "skip":
            kept = ~np.logical_or.reduce(list(misfits.values()))
            chunk = chunk.at(kept, int(kept.sum()))
        return chunk

    def _tell(self, misfits: dict[str, Any], block: Block) -> None:
        for one in self.schema:
            if one["name"] in misfits:
                wrong = misfits[one["name"]]
                row = int(wrong.argmax())
                text = self._text(block, self.names.index(one["source"]), row)
                tables.report_misfit(
                    self.options["on_error"],
                    self.problems,
                    one,
                    text,
                    self.file.path,
                    block.line(row),
                    int(wrong.sum()),
                )

    def _text(self, block: Block, place: int, row: int) -> str:
        """A field as it stands in the file, without its quotes."""
        begins, ends = block.fields(place)
        raw = block.raw[int(begins[row]) : int(ends[row])]
        if place == len(self.names) - 1 and raw.endswith(b"\r"):
            raw = raw[:-1]
        quote = self.options["quote"].encode()
        if quote and raw.startswith(quote):
            raw = raw[1:-1].replace(quote * 2, quote)
        encoding = self.options["encoding"]
        return raw.decode("utf-8" if encoding.startswith("utf") else encoding)

    # ------------------------------------------------------------------------------------------------- pandas

    def _parsed(self, block: Block) -> Any:
        """The places of ``modes``, as their modes say. Where a block does not allow a mode, that place's is changed
        for the rest of the file."""
        import pandas as pd

        if not self.modes:
            return range(len(block.ends))
        while True:
            try:
                frame = self._parse(block.text, self.modes)
            except (ValueError, OverflowError, TypeError) as error:  # ParserError is a ValueError
                if isinstance(error, (pd.errors.ParserError, UnicodeError)) or not self._relax(block):
                    return None
                continue
            unsure = [place for place, mode in self.modes.items() if not self._sure(block, frame, place, mode)]
            if not unsure:
                return frame
            self.modes.update(dict.fromkeys(unsure, "text"))

    def _relax(self, block: Block) -> bool:
        """Changes the modes that failed; False: none did."""
        changed = False
        for place, mode in list(self.modes.items()):
            for other in {"integer": ("integer", "float"), "float": ("float",)}.get(mode, ()):
                try:
                    self._parse(block.text, {place: other})
                    self.modes[place] = other
                    break
                except (ValueError, OverflowError, TypeError):
                    changed = True
                    self.modes[place] = "text"
        return changed

    def _sure(self, block: Block, frame: Any, place: int, mode: str) -> bool:
        """Whether pandas read the texts as numbers: it also casts what it read as floats to integers, and columns of
        nothing but truth values to numbers."""
        import numpy as np

        if mode == "text":
            return True
        found = frame[f"c{place}"].to_numpy()
        if str(found.dtype) != DTYPES[mode]:
            return False
        there = 0 if mode == "integer" else int(np.isnan(found).argmin())
        if self._text(block, place, there).strip(values.SPACES)[:1].lower() in ("t", "f"):
            return False
        if mode == "float" or (found.max() < values.EXACT and found.min() > -values.EXACT):
            return True
        units = np.frombuffer(block.raw, np.uint8)
        marks = np.flatnonzero((units == ord(".")) | (units == ord("e")) | (units == ord("E")))
        begins, ends = block.fields(place)
        return bool((np.searchsorted(marks, begins) == np.searchsorted(marks, ends)).all())

    def _parse(self, text: bytes, modes: dict[int, str]) -> Any:
        import numpy as np
        import pandas as pd

        quote = self.options["quote"]
        read: Any = pd.read_csv  # the arguments of all versions are more than the newest one's types tell
        with np.errstate(invalid="ignore"):  # a cast that fails is told apart
            return read(
                io.BytesIO(text),
                sep=self.options["separator"],
                header=None,
                names=[f"c{place}" for place in range(len(self.names))],
                usecols=[f"c{place}" for place in sorted(modes)],
                index_col=False,
                dtype={f"c{place}": DTYPES[mode] for place, mode in modes.items()},
                keep_default_na=False,
                na_values={f"c{place}": WORDS for place, mode in modes.items() if mode != "text"},
                quotechar=quote or '"',
                quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
                skip_blank_lines=False,
                engine="c",
                low_memory=False,
                encoding="utf-8",
                **_precision(),
            )

    # ------------------------------------------------------------------------------------------------ columns

    def _column(self, one: dict[str, Any], frame: Any, block: Block, count: int) -> tuple[Column, Any]:
        """``((values, missing), whether each does not fit)``."""
        import numpy as np

        if one["name"] in self.fixed:
            return vectors.constant(self.fixed[one["name"]], count, one["type"]), None
        if one["source"] not in self.names:
            return vectors.nothing(count, one["type"]), None
        place = self.names.index(one["source"])
        found = frame[f"c{place}"].to_numpy()
        mode = self.modes[place]
        if mode == "text":
            return self._of_texts(found, one)
        if mode == "integer":
            return (found, np.zeros(count, bool)), None
        missing = np.isnan(found)
        wrong = np.zeros(count, bool)
        unsure = missing
        if one["type"] == "integer":
            with np.errstate(invalid="ignore"):
                unsure = missing | (np.abs(found) >= values.EXACT) | (found != np.trunc(found))
        made = np.where(unsure, 0, found).astype("int64") if one["type"] == "integer" else found
        if not unsure.any():
            return (made, missing), None
        read = values.reader(one)
        begins, ends = block.fields(place)
        for row in np.flatnonzero(unsure & (ends - begins > 0)).tolist():
            text = self._text(block, place, row)
            value = read(text) if read else None
            wrong[row] = value is None and bool(text.strip(values.SPACES))
            missing[row] = value is None or value != value  # noqa: PLR0124 - "nan"
            if not missing[row]:
                made = made if made.flags.writeable else made.copy()
                made[row] = value
        return (made, missing), wrong

    def _of_texts(self, texts: Any, one: dict[str, Any]) -> tuple[Column, Any]:
        import numpy as np
        import pandas as pd

        kind = one["type"]
        if kind == "string":
            missing = np.zeros(len(texts), bool) if self.options["empty_as_string"] else texts == ""
            missing = np.asarray(missing, bool)
            if missing.any():
                texts = texts.copy()
                texts[missing] = None
            return (texts, missing), None
        codes, different = pd.factorize(texts)
        different = list(different)
        if kind == "datetime" and not one.get("formats"):
            moments = _iso(different)
            if moments is not None:
                return (moments[codes], np.zeros(len(texts), bool)), None
        read = values.reader(one)
        made = [read(text) if read else None for text in different]
        fits = [value is not None or not text.strip(values.SPACES) for value, text in zip(made, different)]
        column, missing = vectors.column([None if value != value else value for value in made], kind)  # noqa: PLR0124
        return (column[codes], missing[codes]), ~np.array(fits, bool)[codes]


def _precision() -> dict[str, Any]:
    """Numbers are read as Python reads them; from 3.1 on pandas does nothing else."""
    import pandas as pd

    version = tuple(int(part) for part in pd.__version__.split(".")[:2])
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def _iso(texts: list[str]) -> Any:
    """Moments of texts that are all like 2020-01-31 or 2020-01-31T10:20:30; None: they are not."""
    import numpy as np

    length = len(texts[0]) if texts else 0
    if length not in (10, 19) or not all(len(text) == length and text.isascii() for text in texts):
        return None
    letters = np.array(texts, f"S{length}").view(np.uint8).reshape(-1, length)
    for place in range(length):
        wanted = {4: b"-", 7: b"-", 10: b"T ", 13: b":", 16: b":"}.get(place, b"0123456789")
        if not np.isin(letters[:, place], np.frombuffer(wanted, np.uint8)).all():
            return None
    if min(texts) < "0001":
        return None
    try:
        return np.array(texts, "datetime64[us]")
    except ValueError:
        return None  # no day of the calendar
