"""Training of networks that are no models of transformers, by a program or by another network.

`CausalDistillationTrainer` is a `transformers.Trainer`: it saves, loads and resumes models of transformers, and reads
their tasks and widths off their configs. Here objective and draws are the same, and the loop is a plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.fields import Strict
from iit_toolkit.data.batch import Batch
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.cost import ATTENTION_RULES
from iit_toolkit.distillation.objective import Losses, Objective
from iit_toolkit.distillation.spoilt import refuse_spoilt_losses, refuse_spoilt_weights
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError, did_you_mean, mistakes
from iit_toolkit.interchange import Interchange, Sampler
from iit_toolkit.interchange.certify_sides import certify_sides
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.program_side import ProgramSide
from iit_toolkit.interchange.sampling import SourceRows, Variables, step_generator
from iit_toolkit.interchange.sides import SitedSide, Teacher, new_subspaces, side_of

_CERTIFIED_ROWS = 256
_Positive = Annotated[int, Field(strict=True, ge=1)]


class NetworkTraining(Strict):
    """Settings of `train_network`.

    Attributes:
        steps: Updates of the student.
        batch_size: Rows per update, drawn from the data with replacement.
        learning_rate: Of Adam; it decays linearly to 0.
        weights: Weight of each loss term. The default is interchange intervention training on a program: the labels,
            and the answers under interchanges.
        temperature: Temperature of the distillation losses; at 1, `causal_ce` to a program is plain cross entropy.
        frozen: Whether the student stays as it is, and the learned subspaces of its sites are trained alone.
        subspace_learning_rate: That of learned subspaces.
        seed: Of batches, interventions and dropout.
    """

    steps: _Positive
    batch_size: _Positive = 1024
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    weights: dict[str, float] = {"task": 1.0, "causal_ce": 1.0}
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    frozen: Annotated[bool, Field(strict=True)] = False
    subspace_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    seed: Annotated[int, Field(strict=True, ge=0)] = 0

    @classmethod
    def of(cls, **settings: Any) -> NetworkTraining:
        """Return the settings.

        Raises:
            UserError: If a setting is unknown or out of range.
        """
        try:
            return cls(**settings)
        except ValidationError as error:
            first = min(mistakes(error), key=lambda one: one.kind != "extra_forbidden")
            unknown = first.kind == "extra_forbidden"
            near = f"unknown setting, {did_you_mean(str(first.keys[-1]), cls.model_fields)}"
            raise UserError(f"training.{first.place}: {near if unknown else first.message}") from None


Logged = Callable[[int, Losses], None]
"""What is called after every update, with its number from 1 on and its losses."""


def train_network(
    student: nn.Module,
    teacher: Teacher,
    alignment: Alignment | None,
    rows: TensorRows,
    *,
    subspaces: LearnedSubspaces | None = None,
    log: Logged | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Train a network to answer as its teacher does, also when aligned neurons are swapped between inputs.

    Sites with a learned `subspace` are trained with the network; or alone, if `frozen`: then this is distributed
    alignment search (Geiger et al. 2023, arXiv 2303.02536) against the teacher, and only `causal_*` terms count.

    Args:
        student: The network; it is trained in place, and left in eval mode.
        teacher: A program or another network; a network is set to eval mode and without gradients.
        alignment: The alignment; needed by `causal_*` weights, `strict` and `aligned_mse`.
        rows: The data.
        subspaces: Those of the alignment's learned sites (`iit_toolkit.new_subspaces`); they are trained in place.
        log: Called after every update.
        **settings: Those of `NetworkTraining`.

    Returns:
        The mean of each term over the last tenth of the steps.

    Raises:
        UserError: If settings, rows, alignment or subspaces do not fit, both sides do not pass `certify_sides`, or a
            loss is not finite.
    """
    training = NetworkTraining.of(**settings)
    objective, draw, device = _made(student, teacher, alignment, rows, training, subspaces)
    optimizer = torch.optim.Adam(_parameters(student, subspaces, training), lr=training.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / training.steps)
    sums: dict[str, Tensor] = {}
    counted = max(1, training.steps // 10)
    with torch.random.fork_rng(), _frozen(student, training.frozen), _hardened(subspaces):
        torch.manual_seed(training.seed)
        for step in range(training.steps):
            student.train(not training.frozen)
            batch, interchanges = draw(step)
            batch = {name: value.to(device) for name, value in batch.items()}
            if subspaces is not None:
                subspaces.set_progress(step / training.steps)
            losses = objective(batch, interchanges)
            if not bool(losses.total.isfinite()):
                refuse_spoilt_losses(objective, losses, batch, step)
            optimizer.zero_grad()
            if losses.total.requires_grad:  # a frozen network's variable may have no learned site
                losses.total.backward()
            elif not training.frozen:
                raise _untrainable(student)
            optimizer.step()
            schedule.step()
            if log is not None:
                log(step + 1, losses)
            if step >= training.steps - counted:
                for name, value in losses.terms.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
    student.eval()
    refuse_spoilt_weights(objective, training.steps)
    if subspaces is not None:
        subspaces.steps += training.steps
    return {name: float(value) / counted for name, value in sums.items()}


@dataclass(frozen=True)
class StepFlops:
    """The multiplications and additions in the matrix products of a step of `train_network`.

    Attributes:
        flops: Those of a step, with all gradients.
        plain_flops: Those of the same step without swaps.
    """

    flops: int
    plain_flops: int


def step_flops(
    student: nn.Module, teacher: Teacher, alignment: Alignment | None, rows: TensorRows, **settings: Any
) -> StepFlops:
    """Count the operations of the first step of `train_network`, which is run and changes nothing.

    Products that torch's counter does not know, such as those inside an LSTM, are not counted.

    Args:
        student: As for `train_network`.
        teacher: As for `train_network`.
        alignment: As for `train_network`.
        rows: As for `train_network`.
        **settings: As for `train_network`.

    Raises:
        UserError: As for `train_network`.
    """
    training = NetworkTraining.of(**settings)
    subspaces = None
    if alignment is not None and alignment.learns:
        subspaces = new_subspaces(student, alignment, rows, teacher=teacher)
    objective, draw, device = _made(student, teacher, alignment, rows, training, subspaces)
    weights = objective.weights
    base = {term.name: weight for term, weight in weights.of_runs(counterfactual=False)}
    plain = weights.of_base_runs() if base else ObjectiveWeights(task=1.0)
    with torch.random.fork_rng():
        batch, interchanges = draw(0)
        batch = {name: value.to(device) for name, value in batch.items()}
        whole, without = (
            _counted(objective, batch, swaps, one) for swaps, one in ((interchanges, weights), ([], plain))
        )
    return StepFlops(max(1, whole), max(1, without))


def _counted(
    objective: Objective, batch: dict[str, Tensor], interchanges: list[Interchange], weights: ObjectiveWeights
) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION_RULES)
    with counter:
        losses = objective(batch, interchanges, weights)
        if not bool(losses.total.isfinite()):
            refuse_spoilt_losses(objective, losses, batch, 0)
        assert objective.student.module is not None
        if not losses.total.requires_grad:
            raise _untrainable(objective.student.module)
        losses.total.backward()
    objective.student.module.zero_grad()
    return counter.get_total_flops()


def _made(
    student: nn.Module,
    teacher: Teacher,
    alignment: Alignment | None,
    rows: TensorRows,
    training: NetworkTraining,
    subspaces: LearnedSubspaces | None = None,
) -> tuple[Objective, _Draw, torch.device]:
    """Return the objective, the draws and the student's device, once all fits together."""
    weights = ObjectiveWeights.from_dict(training.weights, "training.weights")
    weights.require_learnable("training.weights", alignment, frozen=training.frozen)
    if training.frozen:
        if subspaces is None:
            raise UserError("training.frozen trains learned subspaces alone, but there are none; give `subspaces`")
        weights = weights.of_counterfactual_runs()
    if weights.needs_alignment and alignment is None:
        raise UserError("causal_*, strict and aligned_mse loss weights need an alignment; give one, or set them to 0")
    alone = alignment is not None and weights.interchange and alignment.sources.kind == "in_batch"
    if alone and training.batch_size < 2:
        raise UserError("training.batch_size: in-batch sources need batches of at least 2 rows; raise it")
    if len(rows) < 2:
        raise UserError(f"the data have {len(rows)} rows; give 2 or more, since sources are other rows")
    own = side_of(student, alignment, "student", subspaces=subspaces)
    other = side_of(teacher, alignment, "teacher", own.device, subspaces=subspaces)
    if isinstance(teacher, nn.Module):
        teacher.requires_grad_(False)
    for side in (own, other):
        side.eval()
    tried = rows.batch(torch.arange(min(_CERTIFIED_ROWS, len(rows))))
    refuse_failed(certify_sides(other, own, tried))
    if any(weights.compares("hidden", counterfactual=one) for one in (False, True)):
        _require_hidden(own, other, tried)
    objective = Objective(
        other, own, weights, "sequence_classification", temperature=training.temperature, subspaces=subspaces
    )
    return objective, _Draw(alignment, weights, rows, training), own.device


@torch.no_grad()
def _require_hidden(student: SitedSide, teacher: SitedSide, batch: Batch) -> None:
    """Check that both sides have hidden states of one width."""
    terms = "cos, hidden_mse and their causal_ twins compare last hidden states"
    if isinstance(teacher, ProgramSide):
        raise UserError(f"{terms}, and a program has none; set their weights to 0")
    widths = [
        side.base_run({name: value.to(side.device) for name, value in side.reads(batch).items()}).hidden.shape[-1]
        for side in (student, teacher)
    ]
    if widths[0] != widths[1]:
        raise UserError(
            f"{terms}, of which the student has {widths[0]} and the teacher {widths[1]}; give networks with as many, "
            "or set their weights to 0"
        )


def _untrainable(student: nn.Module) -> UserError:
    """Return the error for a network whose answers have no gradient."""
    trained = any(weight.requires_grad for weight in student.parameters())
    why = "its answers are computed without gradients" if trained else "it has none with requires_grad"
    return UserError(f"{type(student).__name__}: no weight can be trained, since {why}; give one that can be trained")


def _parameters(student: nn.Module, subspaces: LearnedSubspaces | None, training: NetworkTraining) -> list[Any]:
    """Return what is trained, as an optimizer takes it."""
    if subspaces is None:
        return list(student.parameters())
    learned = {"params": list(subspaces.parameters()), "lr": training.subspace_learning_rate}
    return [learned] if training.frozen else [{"params": list(student.parameters())}, learned]


@contextmanager
def _frozen(student: nn.Module, frozen: bool) -> Generator[None]:
    """Let no gradient reach a network's weights, if it is frozen."""
    trainable = [weight for weight in student.parameters() if frozen and weight.requires_grad]
    for weight in trainable:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trainable:
            weight.requires_grad_(True)


@contextmanager
def _hardened(subspaces: LearnedSubspaces | None) -> Generator[None]:
    """Let learned boundaries be those of whole directions after a training, however it ends."""
    try:
        yield
    finally:
        if subspaces is not None:
            subspaces.set_progress(None)


class _Draw:
    """Draws the batch and the interventions of a step, which follow from seed and step."""

    def __init__(
        self, alignment: Alignment | None, weights: ObjectiveWeights, rows: TensorRows, training: NetworkTraining
    ) -> None:
        self._rows = rows
        self._training = training
        self._sampler: Sampler | None = None
        if alignment is not None and weights.interchange:
            sources = SourceRows(len(rows), lambda numbers: rows.batch(torch.tensor(numbers)), training.seed)
            self._sampler = Sampler(alignment.positions, alignment.sources, "sequence_classification", sources)
            chances = torch.tensor(alignment.probabilities, dtype=torch.float64)
            names = [variable.name for variable in alignment.variables]
            self._variables = Variables(names, chances, torch.ones_like(chances))

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[Interchange]]:
        generator = step_generator(self._training.seed, step, 0, 0)
        numbers = torch.randint(len(self._rows), (self._training.batch_size,), generator=generator)
        batch = self._rows.batch(numbers)
        if self._sampler is None:
            return batch, []
        return batch, self._sampler.interchanges(batch, self._variables, 1, generator)
