"""Saving students: tried before anything is trained, and elsewhere if it fails in the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.subspace_files import SUBSPACES
from iit_toolkit.runs.folder import RunFolder, failed_to_write, folder_written_whole, left_over, remove, write_json
from iit_toolkit.runs.manifest import digests

RECORD = "training.json"
_ADAM = ("adamw_torch", "adamw_torch_fused")
_STATES_OF_ADAM = 2


def refuse_unsaveable(student: PreTrainedModel, prepared: Prepared, folder: RunFolder) -> int:
    """Save a student and its tokenizer once, before it is trained, and return how many bytes they take.

    Raises:
        UserError: If they cannot be saved there.
    """
    target = folder.path / left_over("trial")
    try:
        with folder_written_whole(target) as written:
            student.save_pretrained(written)
            prepared.tokenizer.save_pretrained(written)
            return sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, UnicodeEncodeError):
            raise UserError(
                f"{ascii(str(folder.path))}: the locale's encoding ({cause.encoding}) lacks letters of this path, so "
                "the student could not be saved there; set PYTHONUTF8=1 or LC_ALL=C.UTF-8, or choose another --output"
            ) from error
        reason = (cause.strerror if isinstance(cause, OSError) else None) or one_line(cause or error)[:150]
        raise UserError(
            f"{folder.path}: nothing is trained, since students could not be saved there: {reason}; make room or "
            "choose another folder"
        ) from error
    except Exception as error:  # whatever a model's own saving raises
        raise UserError(
            f"nothing is trained, since the student could not be saved: {one_line(error)[:180]}; change that in the "
            "config.json or generation_config.json it comes from"
        ) from error
    finally:
        shutil.rmtree(target, ignore_errors=True)


def refuse_too_little_room(folder: RunFolder, size: int, arms: Sequence[tuple[CausalDistillationConfig, int]]) -> None:
    """Refuse to train if the folder's disk certainly lacks room for the students and for checkpoints asked for.

    Args:
        folder: The run folder.
        size: Bytes of one student.
        arms: The settings of every arm that is to be trained, and how many checkpoints it is asked to make.

    Raises:
        UserError: If it does.
    """
    needed = sum(size + _bytes_of_checkpoints(size, settings, made) for settings, made in arms)
    free = shutil.disk_usage(folder.path).free
    if needed > free:
        raise UserError(
            f"{folder.path}: {free / 1e6:,.1f} MB are free, but the students and their checkpoints take about "
            f"{needed / 1e6:,.1f} MB; make room, choose another --output, or lower training.save_total_limit"
        )


def _bytes_of_checkpoints(size: int, settings: CausalDistillationConfig, made: int) -> int:
    limit = settings.save_total_limit
    optimizer = _STATES_OF_ADAM if str(settings.optim) in _ADAM else 0
    return size * (1 + optimizer) * (min(made, limit) if limit else made)


def save_student(
    student: PreTrainedModel,
    prepared: Prepared,
    target: Path,
    record: dict[str, Any],
    checkpoint: Path | None,
    subspaces: LearnedSubspaces | None = None,
) -> None:
    """Save a student as a plain Hugging Face model, with the record of its training, whole or not at all.

    If its place cannot be written and no checkpoint holds it, it is saved in a folder for temporary files.

    Args:
        student: The student.
        prepared: Gives the tokenizer.
        target: The folder of its arm.
        record: What `training.json` says, besides the files.
        checkpoint: The checkpoint that holds the trained student, if one does.
        subspaces: The learned subspaces of its sites, if there are any.

    Raises:
        UserError: If its place cannot be written; the message says where the student is.
    """
    try:
        _write(student, prepared, target, record, subspaces)
    except Exception as error:
        if not isinstance(error, UserError) and not failed_to_write(error):
            raise
        reason = one_line(error)[:150]
        if checkpoint is not None:
            raise UserError(f"{reason}. {checkpoint} holds the trained student: make room, then --resume") from error
        try:
            place = Path(tempfile.mkdtemp(prefix="iit_toolkit-"))
        except OSError:
            raise error from None
        rescued = place / target.name
        try:
            _write(student, prepared, rescued, record, subspaces)
        except Exception:
            remove(place)
            raise error from None
        raise UserError(
            f"{reason}. The trained student is kept in {rescued}: make room, move it to {target}, and go on with "
            "--resume"
        ) from error


def _write(
    student: PreTrainedModel,
    prepared: Prepared,
    target: Path,
    record: dict[str, Any],
    subspaces: LearnedSubspaces | None,
) -> None:
    with folder_written_whole(target) as folder:
        student.save_pretrained(folder)
        prepared.tokenizer.save_pretrained(folder)
        if subspaces is not None:
            subspaces.save(folder / SUBSPACES)
        write_json(folder / RECORD, {**record, "files": digests(folder)})
