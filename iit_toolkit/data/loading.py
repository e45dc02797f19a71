"""Loads one split through `datasets`: local files as they are now, with errors that name the file and the remedy.

`datasets` knows a local file in its cache by name and time stamp, so it confuses files of the same name and time. Here
local files are read into a temporary folder, and the folder is removed at once. What the Hub holds has versions, and
stays in the cache.
"""

from __future__ import annotations

import errno
import glob
import tempfile
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, ReadInstruction, Value, concatenate_datasets, load_dataset, logging
from datasets.data_files import get_data_patterns, resolve_pattern
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as BUILDERS  # pyright: ignore
from datasets.table import InMemoryTable

from iit_toolkit.errors import UserError, did_you_mean, listed, one_line

DataFiles = Mapping[str, str | Sequence[str]] | Sequence[str] | str
_Files = dict[str, list[str]]

TEXT = ("string", "large_string", "string_view")
"""What columns of text are called."""
_LINES = ("text", "csv", "json")  # builders of files that are text
_OPTIONS: dict[str, dict[str, Any]] = {
    "text": {"encoding": "utf-8-sig"},  # drops a byte order mark, as the other builders do by themselves
    "csv": {"keep_default_na": False, "na_values": [""]},  # "null" and "NA" are texts, too
}
_PACKED = (b"\x1f\x8b", b"PK", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"7z")
_HEAD = 4096


def load_split(
    path: str,
    split: str,
    *,
    name: str | None = None,
    data_files: DataFiles | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """Load one split as `datasets.load_dataset` does; of local data, only the files of that split.

    Args:
        path: A builder (`text`, `parquet`, `json`, ...), a folder, or a Hub id.
        split: Split, such as `train` or `validation[:1000]`.
        name: Configuration of the data set.
        data_files: Files for a builder, by split.
        columns: Columns that are needed. Files may differ in the others.

    Returns:
        The needed columns; if none are given, or the split lacks some, those that it has.

    Raises:
        UserError: If it can't be read, its files differ in what is needed, or a file has a needed column twice.
    """
    where = describe_split(path, name, split)
    if name is not None and path in BUILDERS:
        raise UserError(f"data {where}: a name is of data sets of the Hub, not of {path} files; leave it out")
    given = _local_files(path, split, data_files, where)
    if given is None:
        try:
            loaded = load_dataset(path, name, data_files=data_files, split=split)
        except MemoryError:
            raise
        except Exception as error:  # datasets and its readers raise dozens of classes
            raise UserError(f"data {where} can't be loaded: {_reason(error)}") from error
        return _needed(loaded, columns)
    files, patterns = given
    for file in [file for some in files.values() for file in some] if path in _LINES else []:
        _refuse_other_encoding(file, where)
    options = dict(_OPTIONS.get(path, {}))
    if path == "parquet" and columns:
        options["columns"] = list(columns)
    try:
        loaded = _read(path, name, patterns, split, **options)
        if columns and len([file for some in files.values() for file in some]) > 1 and _lacks(loaded, columns):
            return _file_by_file(path, name, files, split, where, columns)
    except MemoryError:
        raise
    except Exception as error:
        if any(files.values()):
            return _file_by_file(path, name, files, split, where, columns)
        raise UserError(f"data {where} can't be loaded: {_reason(error)}") from error
    _refuse_twice(loaded, path, columns, where)
    return _needed(loaded, columns)


def describe_split(path: str, name: str | None, split: str) -> str:
    """Name a split in messages."""
    return f"{path}{f' ({name})' if name else ''}, split {split}"


def _local_files(
    path: str, split: str, data_files: DataFiles | None, where: str
) -> tuple[_Files, dict[str, Any] | None] | None:
    """Return the files of a split, by its parts' names, with their patterns; `None` for what is not local."""
    given = data_files is not None
    if path in BUILDERS:
        base = None
    elif Path(path).exists():
        base = path
        if data_files is None and Path(path).is_dir() and not (Path(path) / "README.md").exists():
            data_files = _patterns_of(path)
    else:
        return None
    if data_files is None:
        return {}, None
    by_split = dict(data_files) if isinstance(data_files, Mapping) else {"train": data_files}
    names = list(dict.fromkeys(part.partition("[")[0].strip() for part in split.split("+")))
    if "all" not in names:
        for one in names:
            if one not in by_split:
                raise UserError(
                    f'data {where} can\'t be loaded: no split "{one}" among its files; {did_you_mean(one, by_split)}'
                )
        by_split = {one: by_split[one] for one in names}
    patterns = {
        one: [_literal(pattern, base) for pattern in ([some] if isinstance(some, str) else some)]
        for one, some in by_split.items()
    }
    if all(_remote(pattern) for some in patterns.values() for pattern in some):
        return None
    resolved = {one: _resolved(some, base) for one, some in patterns.items()}
    for pattern in (pattern for some in patterns.values() for pattern in some) if given else ():
        if glob.has_magic(pattern) and not _remote(pattern) and not _resolved([pattern], base):
            raise UserError(f"data {where} can't be loaded: no file matches {_short(pattern)}; correct data_files")
    return resolved, patterns


def _patterns_of(folder: str) -> dict[str, Any] | None:
    try:
        return {str(split): patterns for split, patterns in get_data_patterns(folder).items()}
    except Exception:  # an empty folder, for example: `load_dataset` says so
        return None


def _literal(pattern: str, base: str | None = None) -> str:
    """Return a pattern that matches only the file, if one has that very name."""
    named = pattern != (escaped := glob.escape(pattern)) and Path(base or "", pattern).is_file()
    return escaped if named else pattern


def _remote(pattern: str) -> bool:
    """Whether a pattern is of another machine; the last link of a chain (`zip://*.txt::URL`) counts."""
    last = pattern.rpartition("::")[2]
    return "://" in last and not last.startswith(("file://", "local://"))


def _resolved(patterns: list[str], base: str | None) -> list[str]:
    """Return the files behind patterns; none if one matches nothing, as `load_dataset` then says."""
    try:
        return [str(file) for pattern in patterns for file in resolve_pattern(pattern, base or "")]
    except Exception:
        return []


def _read(path: str, name: str | None, files: dict[str, Any] | None, split: str, **options: Any) -> Dataset:
    """Read local files; what is read stays mapped when the folder is gone."""
    with tempfile.TemporaryDirectory(prefix="iit_toolkit-", ignore_cleanup_errors=True) as folder, _quiet():
        loaded = cast(
            Dataset, load_dataset(path, name, data_files=files, split=split, cache_dir=folder, **cast(Any, options))
        )
        table = InMemoryTable(loaded.data.table)
        return Dataset(table, info=loaded.info, split=loaded.split, fingerprint=uuid.uuid4().hex[:16])


@contextmanager
def _quiet() -> Generator[None]:
    """Keep `datasets` from writing lines of its own about what messages say here."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _file_by_file(
    path: str, name: str | None, files: _Files, split: str, where: str, columns: Sequence[str] | None
) -> Dataset:
    """Read each file by itself, so that only what is needed must agree, and put the split together."""
    read = [(file, _read_file(path, name, file, where, columns)) for some in files.values() for file in some]
    for column in columns or ():
        lacking = [(file, part) for file, part in read if column not in part.column_names]
        if 0 < len(lacking) < len(read):
            file, part = lacking[0]
            raise UserError(
                f'data {where}: {_short(file)} has no column "{column}"; it has: {listed(part.column_names)}; '
                "give files that have it"
            )
    for one in read[1:]:
        _refuse_different(read[0], one, where)
    parts = iter(part for _, part in read)
    by_split = {one: concatenate_datasets([next(parts) for _ in some]) for one, some in files.items()}
    try:
        spans = cast(Any, ReadInstruction.from_spec(split)).to_absolute(
            {one: len(rows) for one, rows in by_split.items()}
        )
    except (ValueError, AssertionError) as error:
        raise UserError(f"data {where} can't be loaded: {_reason(error)}") from error
    return concatenate_datasets(
        [
            by_split[span.splitname].select(
                range(span.from_ or 0, len(by_split[span.splitname]) if span.to is None else span.to)
            )
            for span in spans
        ]
    )


def _read_file(path: str, name: str | None, file: str, where: str, columns: Sequence[str] | None) -> Dataset:
    options = dict(_OPTIONS.get(path, {}))
    if path == "json":  # one chunk, since each has to have the columns of the first
        options["chunksize"] = max(10 << 20, _size(file))
    attempts = [{**options, "usecols": list(columns)}, options] if path == "csv" and columns else [options]
    for attempt in attempts:
        try:
            loaded = _read(path, name, {"train": [_literal(file)]}, "train", **attempt)
            break
        except MemoryError:
            raise
        except Exception as error:
            if attempt is attempts[-1]:
                raise UserError(f"data {where} can't be loaded: {_short(file)}: {_reason(error)}") from error
    else:
        raise AssertionError
    return _needed(loaded, columns)


def _refuse_different(first: tuple[str, Dataset], other: tuple[str, Dataset], where: str) -> None:
    """Refuse files of one split that differ in what is needed of them."""
    (name, rows), (other_name, other_rows) = first, other
    if set(rows.column_names) != set(other_rows.column_names):
        raise UserError(
            f"data {where}: {_short(name)} has the columns {listed(rows.column_names)}, {_short(other_name)} "
            f"{listed(other_rows.column_names)}; give files of the same columns"
        )
    for column in rows.column_names:
        kinds = rows.features[column], other_rows.features[column]
        if kinds[0] != kinds[1] and Value("null") not in kinds:
            types = [str(getattr(kind, "dtype", kind))[:40] for kind in kinds]
            raise UserError(
                f'data {where}: column "{column}" holds {types[0]} in {_short(name)}, {types[1]} in '
                f"{_short(other_name)}; give files that agree"
            )


def _refuse_twice(loaded: Dataset, path: str, columns: Sequence[str] | None, where: str) -> None:
    for column in columns or ():
        if path == "csv" and f"{column}.1" in loaded.column_names:  # what pandas calls the second one
            raise UserError(f'data {where} has the column "{column}" twice; give each column a name of its own')


def _refuse_other_encoding(file: str, where: str) -> None:
    """Refuse UTF-16 and UTF-32, with or without a byte order mark, and anything that is not text."""
    try:
        with open(file, "rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return  # `load_dataset` says so
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))
    if not head.startswith(_PACKED) and (marked or 4 * head.count(0) > len(head) > 0):
        raise UserError(f"data {where} can't be loaded: {_short(file)} is UTF-16 or binary; save it as UTF-8 text")


def _lacks(loaded: Dataset, columns: Sequence[str]) -> bool:
    """Whether a needed column is missing, or empty in places: a file may lack it."""
    return any(column not in loaded.column_names or loaded.data[column].null_count for column in columns)


def _needed(loaded: Dataset, columns: Sequence[str] | None) -> Dataset:
    have_all = columns is not None and set(columns) <= set(loaded.column_names)
    return loaded.select_columns(list(dict.fromkeys(columns or ()))) if have_all else loaded


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0


def _short(file: str) -> str:
    return file if len(file) <= 80 else f"...{file[-77:]}"


def _reason(error: BaseException) -> str:
    """Return what a reader says, in few words, with the remedy if one is known."""
    cause = error.__cause__ or error
    reason = one_line(cause)[:160] or (type(cause).__name__ if not isinstance(cause, StopIteration) else "")
    if not reason or "at least one example" in reason or "corresponds to no data" in reason:  # from empty files
        return "its files hold nothing"
    if getattr(cause, "errno", None) == errno.ENOSPC or "Not enough disk space" in reason:
        return f"{reason}; give room, or set TMPDIR to a folder that has it"
    if "Multiple matches for FieldRef" in reason:
        return "it has a column twice; give each column a name of its own"
    if isinstance(cause, UnicodeDecodeError):
        return f"{reason}; save it as UTF-8"
    return reason
