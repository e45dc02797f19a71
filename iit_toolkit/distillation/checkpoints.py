"""Checkpoints that are whole or not there, and are checked before a training goes on from them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.folder import failed_to_write, remove
from iit_toolkit.runs.manifest import MANIFEST, NotWholeError, read_whole, write_manifest

_LOG = getLogger(__name__)
_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = ".saving"
_REQUIRED = ("config.json", "optimizer.pt", "scheduler.pt", "trainer_state.json")


class WholeCheckpoints(Trainer):
    """A trainer whose checkpoints take their names when they are whole, each with a manifest of its files.

    Attributes:
        inputs: What trainings must share, by name, for one to go on from the other's checkpoint, e.g. fingerprints.
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
        """Train, from a whole checkpoint if one is given or, with `True`, from the newest.

        Raises:
            UserError: If there is none, or it is damaged, or of other inputs or another number of processes.
        """
        if resume_from_checkpoint is True:
            newest = newest_whole(Path(str(self.args.output_dir)))
            if newest is None:
                raise UserError(f"no whole checkpoint in {self.args.output_dir}: train without resuming")
            resume_from_checkpoint = str(newest)
        if resume_from_checkpoint:
            refuse_other_training(Path(resume_from_checkpoint), self.inputs, self.args.world_size)
            if self.is_world_process_zero():
                _tell_other_machine(Path(resume_from_checkpoint), _made_with(self.args.device))
        return super().train(resume_from_checkpoint or None, trial, ignore_keys_for_eval)

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
            self._tell_unsaved(target, reason)

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
        limit = self.args.save_total_limit
        rotate_checkpoints(str(target.parent), limit, self.state.best_model_checkpoint, use_mtime=True)
        return None

    def _tell_unsaved(self, target: Path, reason: str) -> None:
        told = f"could not write {target}: {reason[:150]}"
        if self.needs_checkpoints:
            if not self.is_world_process_zero():  # the main process alone says what is wrong
                raise SystemExit(0)
            raise UserError(f"{told}; earlier checkpoints are as they were: make room and resume")
        if self.args.should_save:
            _LOG.warning("%s; training goes on without it", told)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a folder, and tell which newer ones are damaged."""
    numbered = {int(found[1]): path for path in folder.glob("checkpoint-*") if (found := _NAME.fullmatch(path.name))}
    for _, path in sorted(numbered.items(), reverse=True):
        try:
            _checked(path)
        except NotWholeError as error:
            _LOG.warning("%s is passed over: %s", path, error)
        else:
            return path
    if numbered:
        _LOG.warning("no checkpoint in %s is whole: training begins anew", folder)
    return None


def refuse_other_training(checkpoint: Path, inputs: Mapping[str, str], processes: int) -> Path:
    """Refuse to go on from a checkpoint that is damaged or another training's; return it if it is not.

    Raises:
        UserError: If it is.
    """
    try:
        manifest = _checked(checkpoint)
    except NotWholeError as error:
        raise UserError(f"{checkpoint} cannot be resumed from: {error}; give a whole checkpoint") from None
    refuse_other_count(checkpoint, int(manifest["processes"]), processes)
    refuse_other_inputs(checkpoint, manifest["inputs"], inputs)
    return checkpoint


def refuse_other_count(where: Path, before: int, now: int) -> None:
    """Refuse to go on with another number of processes.

    Raises:
        UserError: If it is another.
    """
    if before != now:
        start = "without torchrun" if before == 1 else f"with torchrun --nproc_per_node {before}"
        raise UserError(
            f"{where} was made by {_count(before)} and cannot be resumed by {now}: start it {start}, or begin a new run"
        )


def refuse_other_inputs(where: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with other inputs, of those that both name.

    Raises:
        UserError: If one is another.
    """
    changed = [name for name in before if name in now and before[name] != now[name]]
    if changed:
        raise UserError(
            f"{where} was made with other inputs: {' and '.join(changed)} changed since; restore them to resume, "
            "or begin a new run"
        )


def _checked(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint from which a training can go on as if it had not been stopped."""
    manifest = read_whole(checkpoint, _REQUIRED)
    processes, inputs = manifest.get("processes"), manifest.get("inputs")
    if not isinstance(processes, int) or not isinstance(inputs, dict) or not isinstance(manifest.get("step"), int):
        raise NotWholeError("its manifest is damaged")
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    weights = ("model.safetensors", "model.safetensors.index.json")
    missing = [name for name in states if name not in manifest["files"]]
    if not any(name in manifest["files"] for name in weights):
        missing.append(weights[0])
    if missing:
        raise NotWholeError(f"{missing[0]} is missing")
    return manifest


def _made_with(device: torch.device) -> dict[str, str]:
    """What sums are rounded by, besides the training itself."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "accelerate", "numpy")}
    return {**versions, "device": device.type, "threads": str(torch.get_num_threads())}


def _tell_other_machine(checkpoint: Path, now: Mapping[str, str]) -> None:
    before = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8")).get("made_with", {})
    changed = [
        f"{name} was {before[name]} and is {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    if changed:
        _LOG.warning(
            "%s: %s; the resumed training may differ in the last digits from one that was not stopped",
            checkpoint,
            ", ".join(changed),
        )


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _sync(folder: Path) -> None:
    """Put a folder's names on the disk, if the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
