"""What transformers saves, loads and looks at: the plain student, though a `DistillationStep` is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from transformers import PreTrainedModel

from iit_toolkit.distillation.checkpoints import WholeCheckpoints
from iit_toolkit.interchange.learned import LearnedSubspaces

_COMPANIONS = "companions.safetensors"


class PlainStudentTrainer(WholeCheckpoints):
    """A trainer of a `DistillationStep` whose checkpoints are those of its student; companions have their own file.

    Attributes:
        student: The student.
        subspaces: The learned subspaces that train with it, if some do.
    """

    student: PreTrainedModel
    subspaces: LearnedSubspaces | None

    def count_steps(self) -> None:
        """Tell the subspaces how many updates they have been trained for."""
        if self.subspaces is not None:
            self.subspaces.steps = self.state.global_step

    @contextlib.contextmanager
    def _student_alone(self) -> Generator[None]:
        step: Any = self.model
        self.model = step.student
        try:
            yield
        finally:
            self.model = step

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        with self._student_alone():
            super()._save(output_dir, state_dict)
        if self.model.companions and self.args.should_save:
            folder = Path(output_dir or self.args.output_dir or ".")
            state = self.model.companions.state_dict()
            alone = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
            safetensors.torch.save_file(alone, folder / _COMPANIONS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        del model  # what is wrapped
        with self._student_alone():
            super()._load_from_checkpoint(resume_from_checkpoint, self.student)  # pyright: ignore[reportArgumentType]
        self.load_companions(Path(resume_from_checkpoint))

    def load_companions(self, checkpoint: Path) -> None:
        """Load what trains with the student, if anything does, from a checkpoint."""
        if self.model.companions:
            weights = safetensors.torch.load_file(checkpoint / _COMPANIONS)
            self.model.companions.load_state_dict(weights)
            self.count_steps()

    def _prepare_for_training(self, *arguments: Any, **named: Any) -> Any:
        prepared = super()._prepare_for_training(*arguments, **named)
        self.callback_handler.model = self.student
        return prepared

    def create_model_card(self, *arguments: Any, **named: Any) -> None:
        """Write the model card that transformers makes of the student."""
        with self._student_alone():
            super().create_model_card(*arguments, **named)

    def _load_best_model(self) -> None:
        with self._student_alone():
            super()._load_best_model()

    def _set_signature_columns_if_needed(self) -> None:
        with self._student_alone():
            super()._set_signature_columns_if_needed()

    def _build_accelerator_args(self, **named: Any) -> dict[str, Any]:
        with self._student_alone():
            return super()._build_accelerator_args(**named)
