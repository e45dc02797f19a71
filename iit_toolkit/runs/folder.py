"""The folder of one run: its file names, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.paths import check_name, check_path

RESULTS_SCHEMA = "iit_toolkit/results/1"
_ARM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TAKEN = frozenset({"figures", "checkpoints", "finetune", "teacher", "untrained"})  # folders, and other models' names


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a file whole or not at all: to a temporary file beside it, which then takes its name.

    Missing parent folders are made. Text is written as UTF-8.

    Raises:
        UserError: If it can't be written (no space, no permission, ...). What stood at `path` is untouched,
            and no temporary file remains.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"could not write {path} ({len(content)} bytes): {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(target: Path) -> Generator[Path]:
    """Gives a new folder to write to, which takes the name `target` if all went well, in the place of what stood there.

    Raises:
        UserError: If it can't be written (no space, no permission, ...). What stood at `target` is untouched, and no
            temporary folder remains.
    """
    check_path(target, "folder")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for weights in temporary.glob("*.safetensors"):  # which only their owner could read
            weights.chmod(temporary.stat().st_mode & 0o666)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        raise UserError(f"could not write {target}: {reason}; make room or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a document as JSON, whole or not at all.

    NumPy and torch scalars become plain numbers; a number that is not finite becomes null, since JSON has none.

    Raises:
        UserError: If it can't be written.
    """
    write_atomically(path, json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Reads a file of results, whatever its name.

    Raises:
        UserError: If it is missing, no JSON, or of another schema.
    """
    try:
        results: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: the run did not finish; go on with `iit-toolkit run CONFIG --resume`"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}") from error
    schema = cast(dict[str, Any], results).get("schema") if isinstance(results, dict) else None
    if schema != RESULTS_SCHEMA:
        raise UserError(f'{path} has the schema {schema!r}; this version reads "{RESULTS_SCHEMA}"')
    return cast(dict[str, Any], results)


def check_arm_name(name: str) -> str:
    """Returns the name of an arm if it can be the name of a folder in a run.

    Raises:
        UserError: If it is no slug (lower-case letters, digits, `-`, `_`), is taken, or is no name of a folder.
    """
    if not _ARM_NAME.fullmatch(name):
        raise UserError(f'arm "{name}": the name must consist of lower-case letters, digits, "-" and "_"')
    if name in _TAKEN:
        raise UserError(f'arm "{name}": this name is taken by the toolkit; choose another')
    return check_name(name, "arm")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. Only names are known here; `write_atomically` writes what is not JSON."""

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Makes a new run folder, or takes an empty one.

        Raises:
            UserError: If something is there already, or the folder can't be made.
        """
        folder = Path(check_path(path, "run folder"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.iterdir())
        except OSError as error:
            raise UserError(f"could not make the run folder {folder}: {error.strerror or error}") from error
        if occupied:
            raise UserError(f"the run folder {folder} is not empty: choose another with --output, or remove it")
        return cls(folder)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Opens the folder of an earlier run.

        Raises:
            UserError: If it is no run folder (neither a config nor results in it).
        """
        folder = cls(Path(check_path(path, "run folder")))
        if not folder.config.is_file() and not folder.results.is_file():
            raise UserError(f"{path} is no run folder: it has neither config.yaml nor results.json")
        return folder

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def alignment(self) -> Path:
        """The resolved alignment."""
        return self.path / "alignment.yaml"

    @property
    def controls(self) -> Path:
        """The answers of the judged student's controls, if they were run."""
        return self.path / "controls.parquet"

    @property
    def results(self) -> Path:
        """Every number of the run, with its provenance."""
        return self.path / "results.json"

    @property
    def outcomes(self) -> Path:
        """One row per evaluated case."""
        return self.path / "outcomes.parquet"

    @property
    def examples(self) -> Path:
        """The texts of the verified pairs, for the report."""
        return self.path / "examples.parquet"

    @property
    def answers(self) -> Path:
        """What the answers read as and how frequent they are, for the report."""
        return self.path / "answers.parquet"

    @property
    def report_html(self) -> Path:
        """The report as one self-contained page."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    def arm(self, name: str) -> Path:
        """The folder of the student that an arm trained.

        Raises:
            UserError: If the name can't be that of an arm.
        """
        return self.path / check_arm_name(name)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keeps other processes from working on the run while this one does.

        Raises:
            UserError: If another does.
        """
        lock = self.path / ".lock"
        try:
            held = FileLock(lock, timeout=0).acquire()
        except Timeout:
            raise UserError(f"another process is at work on the run {self.path}: wait for it, or stop it") from None
        with held:
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()

    def read_results(self) -> dict[str, Any]:
        """Reads `results.json`.

        Raises:
            UserError: If it is missing, no JSON, or of another schema.
        """
        return read_results(self.results)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes `results.json`; `schema` is put in where it is missing.

        Raises:
            UserError: If `results` is of another schema, or the file can't be written.
        """
        document = {"schema": RESULTS_SCHEMA, **results}
        if document["schema"] != RESULTS_SCHEMA:
            raise UserError(f'{self.results}: results of schema {document["schema"]!r}; must be "{RESULTS_SCHEMA}"')
        write_json(self.results, document)


def _plain(value: Any) -> Any:
    """Turns what results hold into what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast(list[Any], value)]
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def new_folder(output: str | Path) -> Generator[RunFolder]:
    """Make a run folder; if what comes first fails, leave everything as it was."""
    check_path(output, "run folder")
    made = [path for path in (Path(output), *Path(output).parents) if not path.exists()]
    folder = RunFolder.create(output)
    try:
        yield folder
    except BaseException:
        for file in (folder.config, folder.alignment):
            file.unlink(missing_ok=True)
        remove_empty(*made)
        raise


def remove_empty(*folders: Path) -> None:
    """Remove folders, the innermost first, up to the first that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
