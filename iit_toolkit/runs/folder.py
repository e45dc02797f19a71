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
from glob import escape
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, SoftFileLock, Timeout
from safetensors import SafetensorError

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.json_files import read_object, refuse_other_schema
from iit_toolkit.files.paths import require_name, require_path

RESULTS_SCHEMA = "iit_toolkit/results/1"
_ARM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
LOCK = ".lock"
_LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{32}(\.tmp)?", re.DOTALL)
_TORCH_COULD_NOT_WRITE = re.compile("PytorchStreamWriter|unexpected pos|inline_container|[Nn]o space|write|writing")
_TAKEN = frozenset({"figures", "checkpoints", "finetune", "subspaces", "teacher", "untrained"})
"""Names of folders, and of other models."""


class AtWorkError(UserError):
    """Another process is at work there."""


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, which then takes its name.

    Missing parent folders are made. Text is written as UTF-8.

    Raises:
        UserError: If it can't be written (no space, no permission, ...). What was at `path` is untouched,
            and no temporary file remains.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f"{left_over(path.name)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"could not write {path} ({len(content)} bytes): {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(target: Path) -> Generator[Path]:
    """Give a new folder to write to. If all goes well, it takes the name `target` and replaces what was there.

    What killed processes left beside `target` is removed. Nobody else may be writing there.

    Raises:
        UserError: If it can't be written (no space, no permission, ...). What was at `target` is untouched, and no
            temporary folder remains.
    """
    require_path(target, "folder")
    temporary = target.with_name(left_over(target.name))
    try:
        for path in target.parent.glob(f".{escape(target.name)}.{'[0-9a-f]' * 32}"):
            remove(path)
        temporary.mkdir(parents=True)
        yield temporary
        for weights in temporary.glob("*.safetensors"):  # only their owner could read them
            weights.chmod(temporary.stat().st_mode & 0o666)
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except Exception as error:
        if not failed_to_write(error):
            raise
        raise UserError(f"could not write {target}: {_reason(error)}; make room or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def left_over(name: str) -> str:
    """Return a temporary name; a killed process left whatever still has such a name."""
    return f".{name}.{uuid.uuid4().hex}"


def failed_to_write(error: Exception) -> bool:
    """Whether an exception is one that libraries raise if they cannot write a file.

    Tokenizers raise a bare `Exception`, torch a `RuntimeError`, and Python a `UnicodeEncodeError` for a name that the
    file system's encoding lacks.
    """
    if type(error) is RuntimeError:
        return _TORCH_COULD_NOT_WRITE.search(str(error)) is not None
    return isinstance(error, OSError | SafetensorError | UnicodeEncodeError) or type(error) is Exception


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def clear_left_overs(folder: Path) -> None:
    """Remove what killed writers left in a folder and in the folders directly below it.

    Nobody else may be writing there.
    """
    for path in _left_overs(folder):
        remove(path)
    for place in list(folder.iterdir()):
        if place.is_dir() and not place.is_symlink():
            for path in _left_overs(place):
                remove(path)


def _left_overs(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _LEFT_OVER.fullmatch(path.name)]


def is_free(folder: Path) -> bool:
    """Whether a folder is missing, empty, or holds no more than what killed processes left.

    Raises:
        UserError: If it can't be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UserError(f"could not read the folder {folder}: {_reason(error)}; choose another") from error
    return all(name == LOCK or _LEFT_OVER.fullmatch(name) for name in names)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as JSON, whole or not at all.

    NumPy and torch scalars become plain numbers; a number that is not finite becomes null, since JSON has none.

    Raises:
        UserError: If it can't be written.
    """
    write_atomically(path, json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results, whatever its name.

    Raises:
        UserError: If it is missing, not JSON, or of another schema.
    """
    try:
        results = read_object(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: the run did not finish; go on with `iit-toolkit run CONFIG --resume`"
        ) from error
    refuse_other_schema(path, results, RESULTS_SCHEMA)
    return results


def require_arm_name(name: str) -> str:
    """Return the name of an arm if it can be the name of a folder in a run.

    Raises:
        UserError: If it is not a slug (lower-case letters, digits, `-`, `_`), is taken, or cannot name a folder.
    """
    if not _ARM_NAME.fullmatch(name):
        raise UserError(f'arm "{name}": the name must consist of lower-case letters, digits, "-" and "_"')
    if name in _TAKEN:
        raise UserError(f'arm "{name}": this name is taken by the toolkit; choose another')
    return require_name(name, "arm")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. Only names are known here; `write_atomically` writes what is not JSON."""

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make a new run folder, or take an empty one.

        Raises:
            UserError: If something is there already, or the folder can't be made.
        """
        run = cls.make(path)
        run.refuse_occupied()
        return run

    @classmethod
    def make(cls, path: str | Path) -> RunFolder:
        """Make a run folder, or take the one that is there, whatever it holds.

        Raises:
            UserError: If it can't be made.
        """
        folder = Path(require_path(path, "run folder"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"could not make the run folder {folder}: {_reason(error)}; choose another with --output"
            ) from error
        return cls(folder)

    def refuse_occupied(self) -> None:
        """Refuse a folder that holds more than what killed processes left.

        Raises:
            UserError: If it does, or can't be read.
        """
        if not is_free(self.path):
            raise UserError(f"the run folder {self.path} is not empty: choose another with --output, or remove it")

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open the folder of an earlier run.

        Raises:
            UserError: If it is not a run folder (neither a config nor results in it).
        """
        folder = cls(Path(require_path(path, "run folder")))
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
    def inputs(self) -> Path:
        """What the run was begun with: fingerprints of teacher, tokenizer and data."""
        return self.path / "inputs.yaml"

    @property
    def controls(self) -> Path:
        """The answers of the judged student's controls, if they were run."""
        return self.path / "controls.parquet"

    @property
    def choices(self) -> Path:
        """The answers among candidates, if questions have any."""
        return self.path / "choices.parquet"

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
        """How the answers read and how frequent they are, for the report."""
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
        """Return the folder of the student that an arm trained.

        Raises:
            UserError: If the name can't be that of an arm.
        """
        return self.path / require_arm_name(name)

    def checkpoints(self, name: str) -> Path:
        """Return the folder of an arm's checkpoints."""
        return self.path / "checkpoints" / require_arm_name(name)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep other processes from working on the run while this one does.

        The system takes the lock from a process that ends, however it ends.

        Raises:
            UserError: If another does, or the folder can't be written or locked.
        """
        with locked(self.path / LOCK, f"the run {self.path}"):
            yield

    def read_results(self) -> dict[str, Any]:
        """Read `results.json`.

        Raises:
            UserError: If it is missing, not JSON, or of another schema.
        """
        return read_results(self.results)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write `results.json`; `schema` is added if it is missing.

        Raises:
            UserError: If `results` is of another schema, or the file can't be written.
        """
        document = {"schema": RESULTS_SCHEMA, **results}
        if document["schema"] != RESULTS_SCHEMA:
            raise UserError(f'{self.results}: results of schema {document["schema"]!r}; must be "{RESULTS_SCHEMA}"')
        write_json(self.results, document)


def _plain(value: Any) -> Any:
    """Turn what results hold into what JSON holds."""
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
def locked(lock: Path, what: str) -> Generator[None]:
    """Keep other processes out of the block.

    Args:
        lock: The file to lock; removed at the end.
        what: What messages say is being worked on.

    Raises:
        AtWorkError: If another process is in such a block.
        UserError: If the file can't be written or locked.
    """
    try:
        held = FileLock(lock, timeout=0)
        held.acquire()
        if SoftFileLock in type(held).__mro__:  # filelock falls back to it if the system has no locks
            held.release()
            raise NotImplementedError("its file system has no locks")
    except Timeout:
        raise AtWorkError(f"another process is at work on {what}: wait for it, or stop it") from None
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"could not lock {what}: {_reason(error)}; choose a folder that can be written and locked"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        held.release()


def remove_empty(*folders: Path) -> None:
    """Remove folders, the innermost first, up to the first that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
