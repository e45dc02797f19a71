"""From a run config of networks to programs, networks, rows and alignments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.sites import Site
from iit_toolkit.alignment.spec import ProgramVariable
from iit_toolkit.config.network_config import NetworkArmConfig, NetworkRunConfig, NetworkVerificationConfig
from iit_toolkit.config.yaml_files import read_yaml
from iit_toolkit.distillation.networks import NetworkTraining
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.files.paths import require_path
from iit_toolkit.files.python_names import python_file
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.program_side import program_sites
from iit_toolkit.interchange.sides import Teacher
from iit_toolkit.interchange.sound import digests, refuse_changed
from iit_toolkit.pipeline.networks.objects import network_named, program_named
from iit_toolkit.pipeline.networks.rows import NetworkRows, fingerprint_of_tensors, rows_of
from iit_toolkit.runs.provenance import fingerprint_of_weights

_Aligned = TypeVar("_Aligned", NetworkArmConfig, NetworkVerificationConfig)
_SET_ELSEWHERE = ("weights", "temperature", "seed")


@dataclass(frozen=True)
class PreparedNetworks:
    """What a run config names, loaded when first asked for."""

    config: NetworkRunConfig
    _as_loaded: dict[str, str] = field(default_factory=dict[str, str], init=False)

    @cached_property
    def program(self) -> CausalModel | None:
        """The program that teaches, or that the teacher was taught."""
        teacher, taught = self.config.teacher.program, self.config.verification.program
        if teacher is not None:
            return program_named(teacher, "teacher.program")
        return None if taught is None else program_named(taught, "verification.program")

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher; a network is in eval mode and without gradients."""
        given = self.config.teacher
        if given.network is None:
            assert self.program is not None
            return self.program
        torch.manual_seed(self.config.seed)
        made = network_named(given.network, "teacher.network", given.weights).eval().requires_grad_(False)
        self._as_loaded.update(digests(made))
        return made

    def refuse_changed_teacher(self) -> None:
        """Check that a network that teaches is still the one that was loaded.

        Raises:
            UserError: If a weight has changed.
        """
        if isinstance(self.teacher, nn.Module):
            refuse_changed(self.teacher, self._as_loaded, f"teacher {self.config.teacher.name}")

    def new_student(self) -> nn.Module:
        """Make a student as it is before training; the same at every call.

        Raises:
            UserError: If the function does not make a network.
        """
        return self.student_of(self.config.student.weights)

    def control(self, alignment: Alignment, judged: nn.Module | None = None) -> nn.Module:
        """Make the untrained control: a student before training.

        It is as its function makes it, without weights of a folder, if sites learn: what is learned on trained weights
        would show no more than that they are trained. So it is if the folder holds the finished student that is judged.
        """
        if alignment.learns:
            return self.student_of(None)
        made = self.new_student()
        if judged is None or fingerprint_of_weights(made.state_dict()) != fingerprint_of_weights(judged.state_dict()):
            return made
        return self.student_of(None)

    def student_of(self, weights: str | None) -> nn.Module:
        """Make a student with the weights of a folder, or with those that the function makes.

        Raises:
            UserError: If the function does not make a network, or the weights do not fit.
        """
        torch.manual_seed(self.config.seed)
        return network_named(self.config.student.network, "student.network", weights).eval()

    @cached_property
    def rows(self) -> NetworkRows:
        """Training rows and held-out rows."""
        paired = self.config.data.balance == "changed"
        variables = program_variables(self.verified_alignment()) if paired else []
        return rows_of(self.config.data, self.program, variables)

    def alignment(self, given: str | dict[str, Any], where: str) -> Alignment:
        """Return the alignment that a config gives as file or data.

        Rows of numbers have one position, so `positions` may be left out.

        Raises:
            UserError: If it is no alignment, or chooses positions. If it has learned subspaces of the teacher, and the
                teacher is verified against a program, too.
        """
        content: Any = read_yaml(Path(require_path(given, where))) if isinstance(given, str) else given
        if isinstance(content, dict):
            content = {"positions": {"kind": "all"}, **content}
        alignment = Alignment.from_dict(content, given if isinstance(given, str) else where)
        if alignment.positions.kind != "all":
            raise UserError(
                f"{where}: positions {alignment.positions.kind}: rows of numbers have one position; leave `positions` "
                "out, or write {kind: all}"
            )
        if alignment.learns_in("teacher") and self.config.verification.program is not None:
            raise UserError(
                f"{where}: a `subspace` of the teacher is another one for every student, so verification.program can't "
                "be asked about the teacher; give `neurons` of the teacher, or leave verification.program out"
            )
        paired, data = alignment.sources.kind == "paired", self.config.data
        if paired != (data.balance == "changed") and (not paired or data.source == "program"):
            raise UserError(
                f"{where}: sources {alignment.sources.kind}: data.balance changed gives every row its source; give "
                "both that and `sources: {kind: paired}`, or none of them"
            )
        self._require_named(alignment, where)
        return alignment

    def _require_named(self, alignment: Alignment, where: str) -> None:
        """Check that the program has the variables that are aligned with it."""
        if self.program is None:
            return
        if self.config.teacher.program is None:
            named = [one.name for one in alignment.variables]
            self.program.require_variables(named, f"{where}: verified against {self.config.program}")
            return
        try:
            program_sites(alignment, self.program)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def arm_alignment(self, arm: str) -> Alignment | None:
        """Return an arm's alignment, or none.

        Raises:
            UserError: As for `alignment`.
        """
        given = self.config.arms[arm].alignment
        alignment = None if given is None else self.alignment(given, f"arms.{arm}.alignment")
        training = self.arm_training(arm)
        weights, size = ObjectiveWeights.from_dict(training.weights, f"arms.{arm}.weights"), training.batch_size
        weights.require_learnable(f"arms.{arm}.weights", alignment, frozen=training.frozen)
        if training.frozen and (alignment is None or not alignment.learns):
            raise UserError(
                f"arms.{arm}: training.frozen trains learned subspaces alone, but there are none; give it an alignment "
                "with a `subspace`"
            )
        if alignment is not None and size < 2 and alignment.sources.kind == "in_batch":
            raise UserError(
                f"arms.{arm}: in-batch sources need batches of at least 2 rows; raise training.batch_size, or give its "
                "alignment `sources: {kind: dataset}`"
            )
        return alignment

    def verified_alignment(self) -> Alignment:
        """Return the alignment that students are verified by: as configured, or the first that an arm has.

        Raises:
            UserError: If there is none, or as for `alignment`.
        """
        given = {"verification": self.config.verification.alignment}
        given |= {f"arms.{name}": arm.alignment for name, arm in self.config.arms.items()}
        for where, candidate in given.items():
            if candidate is not None:
                return self.alignment(candidate, f"{where}.alignment")
        raise UserError("nothing says how to verify: give verification.alignment, or an arm with an alignment")

    def arm_weights(self, arm: str) -> ObjectiveWeights:
        """Return an arm's weights: its own, or those of interchange intervention training or of distillation.

        Raises:
            UserError: If a term is unknown, all weights are zero, or the arm lacks the alignment they need.
        """
        given = self.config.arms[arm]
        base = "task" if self.config.teacher.program is not None else "ce"
        default = {base: 1.0, "causal_ce": 1.0} if given.alignment is not None else {base: 1.0}
        weights = ObjectiveWeights.from_dict(given.weights or default, f"arms.{arm}.weights")
        if weights.needs_alignment and given.alignment is None:
            raise UserError(
                f"arms.{arm}.weights: causal_* weights, strict and aligned_mse need an alignment; give one, or set "
                "them to 0"
            )
        return weights

    def arm_training(self, arm: str) -> NetworkTraining:
        """Return the settings of an arm's training.

        Raises:
            UserError: If one is unknown or out of range, or `steps` are not given.
        """
        given: Mapping[str, Mapping[str, Any]] = {
            "training": self.config.training,
            f"arms.{arm}.training": self.config.arms[arm].training,
        }
        settings: dict[str, Any] = {}
        for where, section in given.items():
            for name in _SET_ELSEWHERE:
                if name in section:
                    raise UserError(f"{where}.{name}: this is set by the config's arms and seed; leave it out")
            settings |= section
        settings |= {
            "weights": {name: one for name, one in self.arm_weights(arm).model_dump().items() if one},
            "temperature": self.config.arms[arm].temperature,
            "seed": self.config.seed,
        }
        return NetworkTraining.of(**settings)

    def inputs(self) -> dict[str, str]:
        """Return a fingerprint of each thing that a run's students and numbers rest on."""
        return {**self.shared_inputs(), "student": fingerprint_of_weights(self.new_student().state_dict())}

    def shared_inputs(self) -> dict[str, str]:
        """Return those of `inputs` that runs with other seeds have, too."""
        rows = {f"{split} rows": fingerprint_of_tensors(rows) for split, rows in self.rows.drawn.items()}
        return {"teacher": self.fingerprint_of_teacher(), **rows}

    def fingerprint_of_teacher(self) -> str:
        """Identify a network by its weights, and a program by the file that it is in, or else by its variables."""
        if isinstance(self.teacher, nn.Module):
            return fingerprint_of_weights(self.teacher.state_dict())
        assert self.config.teacher.program is not None
        path = python_file(self.config.teacher.program, "teacher.program")
        content = str(sorted(self.teacher.parents.items())).encode() if path is None else path.read_bytes()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


def with_alignment_files_read(config: NetworkRunConfig) -> NetworkRunConfig:
    """Return the config with the content of the alignment files it names: a changed file makes another config.

    Raises:
        UserError: If a file is not there, or as for `PreparedNetworks.alignment`.
    """
    prepared = PreparedNetworks(config)

    def read(section: _Aligned, where: str) -> _Aligned:
        given = section.alignment
        if not isinstance(given, str):
            return section
        return section.model_copy(update={"alignment": prepared.alignment(given, f"{where}.alignment").to_dict()})

    arms = {name: read(arm, f"arms.{name}") for name, arm in config.arms.items()}
    return config.model_copy(update={"arms": arms, "verification": read(config.verification, "verification")})


def program_variables(alignment: Alignment) -> list[str]:
    """Return the program's variables that an alignment names; of one between networks, the names of its variables."""
    named = [
        part.variable if isinstance(part, ProgramVariable) else one.name
        for one in alignment.variables
        for part in one.teacher
    ]
    return list(dict.fromkeys(named))


def with_program(alignment: Alignment, side: str) -> Alignment:
    """Return the alignment of one network of two with the program whose variables have its variables' names.

    Args:
        alignment: An alignment between networks.
        side: The network: `teacher` or `student`.
    """
    content = alignment.to_dict()
    for one, variable in zip(content["variables"], alignment.variables, strict=True):
        sites: tuple[Site | ProgramVariable, ...] = variable.teacher if side == "teacher" else variable.student
        one["teacher"] = [{"variable": variable.name}]
        one["student"] = [site.model_dump(mode="json", by_alias=True, exclude_none=True) for site in sites]
    return Alignment.from_dict(content)
