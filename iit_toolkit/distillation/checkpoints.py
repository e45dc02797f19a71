"""Checkpoints that are whole or absent, and are checked before training continues from them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers import Trainer

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.folder import failed_to_write, remove
from iit_toolkit.runs.manifest import NotWholeError, read_whole, write_manifest

_LOG = getLogger(__name__)
_NAME = re.compile(r"checkpoint-([0-9]+)")
_PARTIAL = ".saving"
_REQUIRED = ("config.json", "optimizer.pt", "scheduler.pt", "trainer_state.json")


@dataclass(frozen=True)
class WholeCheckpoint:
    """A checkpoint whose files are as they were written.

    Attributes:
        path: Its folder.
        manifest: What its manifest says.
    """

    path: Path
    manifest: Mapping[str, Any]


class WholeCheckpoints(Trainer):
    """A trainer that names a checkpoint only once it is whole, with a manifest of its files.

    Attributes:
        inputs: What two trainings share, by name, if one can continue from the other's checkpoint, e.g. fingerprints.
        needs_checkpoints: Whether training stops if a checkpoint cannot be written.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.inputs: dict[str, str] = {}
        self.needs_checkpoints = True
        self._saving: str | None = None
        self._saved_for = 0.0

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train, from the checkpoint given or, with `True`, from the newest whole one.

        Raises:
            UserError: If there is none, it is damaged, or it comes from other inputs or another number of processes.
        """
        if not resume_from_checkpoint:
            return super().train(None, trial, ignore_keys_for_eval)
        if resume_from_checkpoint is True:
            begun_at = newest_whole(Path(str(self.args.output_dir)))
            if begun_at is None:
                raise UserError(f"no whole checkpoint in {self.args.output_dir}: train without resuming")
        else:
            begun_at = _whole(Path(resume_from_checkpoint))
        refuse_other_training(begun_at, self.inputs, self.args.world_size)
        if self.is_world_process_zero():
            _warn_of_other_machine(begun_at, _made_with(self.args.device))
        return super().train(str(begun_at.path), trial, ignore_keys_for_eval)

    def seconds_of_saving(self) -> float:
        """Return how long saving took since the last call."""
        spent, self._saved_for = self._saved_for, 0.0
        return spent

    def _get_output_dir(self, trial: Any) -> str:
        return self._saving or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        began, home = time.perf_counter(), Path(super()._get_output_dir(trial))
        target = home / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            remove(home / _PARTIAL)
        reason: str | None = None
        try:
            self._saving = str(home / _PARTIAL)
            super()._save_checkpoint(model, trial)
        except Exception as error:
            if not failed_to_write(error):
                raise
            reason = one_line(error)
        finally:
            self._saving = None
        reason = next(filter(None, gather_object([reason])), None)
        if self.args.should_save:
            if reason is None:
                reason = self._complete(target)
            remove(home / _PARTIAL)
        [reason] = broadcast_object_list([reason])
        self._saved_for += time.perf_counter() - began
        if reason is not None:
            self._warn_of_unsaved(target, reason)

    def _complete(self, target: Path) -> str | None:
        """Write the manifest and give the checkpoint its name; return what went wrong."""
        partial = target.parent / _PARTIAL / target.name
        try:
            facts = {"step": self.state.global_step, "processes": self.args.world_size, "inputs": self.inputs}
            write_manifest(partial, {**facts, "made_with": _made_with(self.args.device)})
            _checked(partial)
            remove(target)
            partial.rename(target)
            _sync(target.parent)
        except (OSError, UserError, NotWholeError) as error:
            return one_line(error)
        self._remove_older(target)
        return None

    def _remove_older(self, newest: Path) -> None:
        """Keep the checkpoint that was just written, the next lower steps up to the limit, and the best one.

        Steps say which is older, since copies and clocks change the times of files. Higher steps belong to a training
        that this one has replaced.
        """
        limit, step = self.args.save_total_limit, self.state.global_step
        if limit is None:
            return
        found = numbered(newest.parent)
        kept = [step, *sorted((one for one in found if one < step), reverse=True)][:limit]
        for one, path in found.items():
            if one not in kept and str(path) != self.state.best_model_checkpoint:
                remove(path)

    def _warn_of_unsaved(self, target: Path, reason: str) -> None:
        message = f"could not write {target}: {reason[:150]}"
        if self.needs_checkpoints:
            if not self.is_world_process_zero():  # the main process alone says what is wrong
                raise SystemExit(0)
            raise UserError(f"{message}; earlier checkpoints are as they were: make room and resume")
        if self.args.should_save:
            _LOG.warning("%s; training goes on without it", message)


def numbered(folder: Path) -> dict[int, Path]:
    """Return a folder's checkpoints by step, whole or not."""
    return {int(found[1]): path for path in folder.glob("checkpoint-*") if (found := _NAME.fullmatch(path.name))}


def newest_whole(folder: Path) -> WholeCheckpoint | None:
    """Return the newest whole checkpoint of a folder, and report newer ones that are damaged."""
    found = numbered(folder)
    for _, path in sorted(found.items(), reverse=True):
        try:
            return WholeCheckpoint(path, _checked(path))
        except NotWholeError as error:
            _LOG.warning("%s is passed over: %s", path, error)
    if found:
        _LOG.warning("no checkpoint in %s is whole: training begins anew", folder)
    return None


def refuse_other_training(checkpoint: WholeCheckpoint, inputs: Mapping[str, str], processes: int) -> None:
    """Refuse to continue from another training's checkpoint.

    Raises:
        UserError: If it is.
    """
    _refuse_other_count(checkpoint.path, checkpoint.manifest["processes"], processes)
    refuse_other_inputs(checkpoint.path, checkpoint.manifest["inputs"], inputs)


def _whole(checkpoint: Path) -> WholeCheckpoint:
    try:
        return WholeCheckpoint(checkpoint, _checked(checkpoint))
    except NotWholeError as error:
        raise UserError(f"{checkpoint} cannot be resumed from: {error}; give a whole checkpoint") from None


def _refuse_other_count(where: Path, before: int, now: int) -> None:
    if before != now:
        start = "without torchrun" if before == 1 else f"with torchrun --nproc_per_node {before}"
        raise UserError(
            f"{where} was made by {_count(before)} and cannot be resumed by {now}: start it {start}, or begin a new run"
        )


def refuse_other_inputs(where: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to continue with other inputs.

    Args:
        where: What was made.
        before: The inputs with which it was made.
        now: The inputs to continue with; entries that only `before` has do not matter.

    Raises:
        UserError: If one differs or was not recorded.
    """
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise UserError(
            f"{where} was made with other inputs: {' and '.join(changed)} changed since; restore them to resume, "
            "or begin a new run"
        )


def _checked(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint from which training can continue as if it had never stopped."""
    manifest = read_whole(checkpoint, _REQUIRED)
    processes, named = manifest.get("processes"), (manifest.get("inputs"), manifest.get("made_with", {}))
    whole_numbers = type(processes) is int and type(manifest.get("step")) is int
    if not whole_numbers or not all(isinstance(one, dict) for one in named):
        raise NotWholeError("its manifest is damaged")
    count = cast(int, processes)
    if not 1 <= count <= len(manifest["files"]):  # each has a file
        raise NotWholeError(f"its manifest speaks of {processes} processes")
    states = ["rng_state.pth"] if count == 1 else [f"rng_state_{rank}.pth" for rank in range(count)]
    weights = ("model.safetensors", "model.safetensors.index.json")
    missing = [name for name in states if name not in manifest["files"]]
    if not any(name in manifest["files"] for name in weights):
        missing.append(weights[0])
    if missing:
        raise NotWholeError(f"{missing[0]} is missing")
    return manifest


def _made_with(device: torch.device) -> dict[str, str]:
    """Return what decides the rounding of sums, besides the training itself."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "accelerate", "numpy")}
    return {**versions, "device": device.type, "threads": str(torch.get_num_threads())}


def _warn_of_other_machine(checkpoint: WholeCheckpoint, now: Mapping[str, str]) -> None:
    before: Mapping[str, str] = checkpoint.manifest.get("made_with", {})
    changed = [
        f"{name} was {before[name]} and is {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    if changed:
        _LOG.warning(
            "%s: %s; the resumed training may differ in the last digits from one that was not stopped",
            checkpoint.path,
            ", ".join(changed),
        )


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _sync(folder: Path) -> None:
    """Flush a folder's names to disk, if the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
