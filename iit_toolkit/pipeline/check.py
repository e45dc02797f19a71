"""What can be said of a run before it spends anything: certification, and an explanation in words."""

from __future__ import annotations

import tempfile
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.spec import Positions
from iit_toolkit.analysis.numbers import count
from iit_toolkit.analysis.verdict import MINIMUM_CLUSTERS
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.data.same_tokenizer import tokenizer_difference
from iit_toolkit.data.shared import count_seen, count_shared
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.data.tables import numbers_of
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.cost import ExpectedCost, expected_cost
from iit_toolkit.distillation.losses import ObjectiveWeights
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.trainer import make_objective
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange import InterchangeModel, Swap, draw_paired_swap
from iit_toolkit.interchange.certify import certify
from iit_toolkit.interchange.checks import Check, attempt, refuse_failed
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.schema import RunConfig
from iit_toolkit.tasks import model_inputs, readable_tokens
from iit_toolkit.trainer_settings import refuse_unusable

_LOG = getLogger(__name__)
_ROWS = 4
_COMPARED_ROWS = 64


def validate(config: RunConfig) -> list[Check]:
    """Check a config on its live models and data; see `iit_toolkit.interchange.certify`."""
    return validate_prepared(Prepared(config))


def validate_prepared(prepared: Prepared) -> list[Check]:
    """As `validate`, on what is loaded already.

    Raises:
        UserError: If students would be verified on what they are trained on, or as for `check_batches`.
    """
    config = prepared.config
    if config.data.train_split == config.data.eval_split:
        raise UserError(
            f"data.train_split and data.eval_split are both {config.data.eval_split}: students would be verified on "
            "what they were trained on; give two, such as train[:90%] and train[90%:]"
        )
    student = prepared.new_student()
    alignments = [(name, prepared.arm_alignment(name, student)) for name in config.arms]
    alignments.append(("verification", prepared.verified_alignment(student)))
    for arm in config.arms:  # which loads the data: what is wrong above is told before
        check_batches(prepared, arm)
    _check_rows("held-out", prepared.eval_rows)
    _tell_seen(prepared, "data", config.data.eval_split, prepared.eval_rows)
    for name, data in config.evaluation.items():
        _tell_seen(prepared, f"evaluation.{name}", data.eval_split, prepared.evaluation_rows[name])
    held_out = f"{len(prepared.eval_rows)} held-out rows of {_count_texts(prepared.eval_rows)} texts"
    checks = [Check("data", True, f"{len(prepared.train_rows)} training rows, {held_out}")]
    _tell_few_texts(prepared)
    for name, rows in prepared.evaluation_rows.items():
        checks.append(Check(f"evaluation.{name}", True, f"{len(rows)} rows"))
    if config.student.checkpoint is not None:
        checks.append(certify_tokenizer(prepared, config.student.checkpoint))
    done: list[Alignment | None] = []
    for name, alignment in alignments:
        if alignment not in done:
            done.append(alignment)
            found = certify_on_rows(prepared, student, alignment)
            checks += [Check(f"{name}: {check.name}", check.passed, check.detail) for check in found]
    checks.append(certify_saving(prepared, student))
    if all(check.passed for check in checks):
        checks.append(certify_answers(prepared))
        for name in config.arms:
            found = certify_losses(prepared, name, student)
            checks += [Check(f"{name}: {check.name}", check.passed, check.detail) for check in found]
    return checks


def check_batches(prepared: Prepared, arm: str) -> None:
    """Check an arm's training settings, and that the training rows make a batch.

    Raises:
        UserError: If a setting is unusable, or there are too few rows.
    """
    settings, rows = prepared.arm_training(arm, Path("unused")), prepared.train_rows
    _check_rows("training", rows)
    whole = settings.train_batch_size
    if settings.dataloader_drop_last and len(rows) < whole:
        raise UserError(
            f"arms.{arm}: {len(rows)} training rows make no whole batch of {whole}, and dataloader_drop_last keeps no "
            "other; give more data or smaller batches"
        )
    refuse_unusable(settings, f"arms.{arm}.training" if prepared.config.arms[arm].training else "training")


def _check_rows(name: str, rows: Dataset) -> None:
    if len(rows) < 2:
        raise UserError(f"data: only {len(rows)} {name} row, but an interchange needs 2; give more or longer texts")


def _count_texts(rows: Dataset) -> int:
    return len(np.unique(numbers_of(rows, "text_id"))) if "text_id" in rows.column_names else len(rows)


def _tell_few_texts(prepared: Prepared) -> None:
    rows = prepared.eval_rows
    texts = _count_texts(rows.select(range(min(prepared.config.verification.pairs, len(rows)))))
    if texts < MINIMUM_CLUSTERS:
        _LOG.warning(
            "the verified rows are of %s, so the verdict will be INCONCLUSIVE: %d are needed; give more texts or raise "
            "verification.pairs",
            count(texts, "text"),
            MINIMUM_CLUSTERS,
        )


def _tell_seen(prepared: Prepared, where: str, split: str, rows: Dataset) -> None:
    """Tell of rows that students are trained on; refuse to verify on them where they are most."""
    same, seen = (count(rows, prepared.train_rows) for count in (count_shared, count_seen))
    trained = prepared.config.data.train_split
    what = "training rows" if seen == same else "of training texts"
    told = f"{where}: {seen:,} of {len(rows):,} rows ({split}) are {what} ({trained})"
    if rows is prepared.eval_rows and 2 * seen > len(rows):
        raise UserError(
            f"{told}, so students would be verified on what they were trained on; give splits that share no texts, "
            "such as train[:90%] and train[90%:]"
        )
    if seen:
        _LOG.warning(told)


def certify_on_rows(
    prepared: Prepared, student: PreTrainedModel, alignment: Alignment | None, *, trains: bool = True
) -> list[Check]:
    """Certify an alignment on the first held-out rows.

    Args:
        prepared: Gives teacher and rows.
        student: The student.
        alignment: The alignment, if any.
        trains: Whether the student is to be trained, so that gradient must reach it.
    """
    rows = prepared.eval_rows
    if min(len(rows), prepared.config.verification.pairs) < 2:
        raise UserError("verification needs at least 2 held-out rows, and verification.pairs of 2 or more")
    limit = readable_tokens(student)
    if limit is not None and prepared.config.data.max_length > limit:
        raise UserError(
            f"data.max_length is {prepared.config.data.max_length}, but the student reads at most {limit} tokens"
        )
    batch = prepared.collator([rows[index] for index in range(min(_ROWS, len(rows)))])
    predicted = batch["labels"] != -100 if prepared.config.task == "masked_lm" else None
    swap = None
    if alignment is not None and alignment.sources.kind == "paired":
        batch, swap = _with_sources(alignment.positions, batch, predicted)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    pad = SpecialTokens.of(prepared.tokenizer).pad
    eligible, task = ~batch["special_tokens_mask"], prepared.config.task
    padded = _rows_differ(prepared, trains)
    return certify(
        prepared.teacher,
        student,
        alignment,
        inputs,
        eligible,
        predicted,
        swap,
        task=task,
        pad=pad,
        padded=padded,
        trains=trains,
    )


def _rows_differ(prepared: Prepared, trains: bool) -> bool:
    """Say whether any two rows differ in length, so that one is padded to the other's."""
    sets = [prepared.eval_rows, *prepared.evaluation_rows.values(), *([prepared.train_rows] if trains else [])]
    if any("source_input_ids" in rows.column_names for rows in sets):
        return True
    compute = cast(Any, pc)  # which makes most of its functions as it is imported
    of_rows = (compute.list_value_length(rows.data.column("input_ids")) for rows in sets)
    lengths = {length for some in of_rows for length in compute.unique(some)}
    return len(lengths) > 1


@torch.no_grad()
def certify_answers(prepared: Prepared) -> Check:
    """Check that the teacher computes something finite in every row that students are verified on."""
    teacher, rows, settings = prepared.teacher, prepared.eval_rows, prepared.config.verification
    before, engine = teacher.device, InterchangeModel(teacher.to(device()), {})  # pyright: ignore[reportArgumentType]
    count, bad = min(len(rows), settings.pairs), list[int]()
    for start in range(0, count, settings.batch_size):
        batch = prepared.collator([rows[index] for index in range(start, min(start + settings.batch_size, count))])
        inputs = {name: value.to(teacher.device) for name, value in model_inputs(batch).items()}
        real = inputs["attention_mask"].bool()
        hidden = engine.base_run(inputs, tokens=torch.zeros_like(real)).hidden
        fine = (hidden.isfinite().all(-1) | ~real).all(1).cpu()
        bad += batch["example_id"][~fine].tolist()
    teacher.to(before)  # pyright: ignore[reportArgumentType]
    name = "teacher: held-out rows"
    if bad:
        seen = f"its hidden states are NaN or infinite in {len(bad):,} of {count:,} held-out rows, e.g. in row {bad[0]}"
        return Check(name, False, f"{seen}; give a teacher whose answers are finite, or data without such rows")
    return Check(name, True, f"hidden states are finite in all {count:,}")


def certify_saving(prepared: Prepared, student: PreTrainedModel) -> Check:
    """Check that what stands beside a student's weights can be saved: transformers reads more than it writes."""
    name = "student: saving"
    parts: dict[str, Any] = {"config.json": student.config, "tokenizer": prepared.tokenizer}
    if student.can_generate():
        parts["generation_config.json"] = student.generation_config
    with tempfile.TemporaryDirectory() as folder:
        for part, one in parts.items():
            try:
                one.save_pretrained(folder)
            except Exception as error:  # whatever transformers thinks of an entry
                said = one_line(error)[:150]
                return Check(
                    name, False, f"its {part} cannot be saved ({said}); correct that of the model it comes from"
                )
    return Check(name, True, f"{', '.join(parts)} can be saved")


def certify_losses(prepared: Prepared, arm: str, student: PreTrainedModel) -> list[Check]:
    """Check that an arm's losses can compare what its alignment aligns, where they do."""
    if not prepared.arm_weights(arm).aligned_mse:
        return []
    objective, batch, _ = _first_step(prepared, arm, prepared.arm_alignment(arm, student), student, _ROWS)
    try:
        with torch.no_grad():
            value = objective(batch, weights=ObjectiveWeights(aligned_mse=1.0)).total
    except UserError as error:
        return [Check("aligned activations", False, str(error))]
    return [Check("aligned activations", True, f"their mean squared difference is {float(value):.3g}")]


def _with_sources(
    positions: Positions, batch: dict[str, Tensor], predicted: Tensor | None
) -> tuple[dict[str, Tensor], Swap]:
    """Put pairs into one batch, the sources below the bases, with the swap from those to these."""
    sources, swap = draw_paired_swap(positions, batch, torch.Generator().manual_seed(0), predicted)
    rows = len(swap.source)
    below = Swap(
        torch.arange(2 * rows).roll(rows),
        torch.cat([swap.mask, torch.zeros_like(swap.mask)]),
        torch.cat([swap.source_position, torch.zeros_like(swap.source_position)]),
    )
    return {name: torch.cat([batch[name], value]) for name, value in sources.items()}, below


def certify_tokenizer(prepared: Prepared, checkpoint: str) -> Check:
    """Check that a student's checkpoint comes with the teacher's tokenizer, or with none."""
    try:
        tokenizer = load_tokenizer(checkpoint)
    except UserError:
        return Check("same tokenizer", True, "the student has none of its own, so it uses the teacher's")
    ours = prepared.tokenizer
    some = prepared.eval_rows.select(range(min(_COMPARED_ROWS, len(prepared.eval_rows))))
    texts = [str(ours.decode(ids, skip_special_tokens=True)) for ids in some["input_ids"]]
    difference = tokenizer_difference(ours, tokenizer, texts)
    if difference is not None:
        return Check("same tokenizer", False, f"{difference}; teacher and student must share one tokenizer")
    return Check("same tokenizer", True, f"{len(ours)} tokens, the special tokens and the ids of texts agree")


def explain(config: RunConfig) -> str:
    """Say in words, before any training, what a config's models, alignments and steps are."""
    prepared = Prepared(config)
    student = prepared.new_student()
    alignments = {name: prepared.arm_alignment(name, student) for name in config.arms}
    verified = prepared.verified_alignment(student)
    inputs = {
        name: value
        for name, value in prepared.collator([prepared.eval_rows[0]]).items()
        if name in ("input_ids", "attention_mask")
    }
    for side, model in (("teacher", prepared.teacher), ("student", student)):
        refuse_failed([attempt(side, model, lambda model=model: _can_run(model, inputs))])
    lines = [
        f"# {config.name}",
        f"task      {config.task}",
        f"teacher   {config.teacher}: {_describe(prepared.teacher)}",
        f"student   {_describe(student)}",
        f"data      {len(prepared.train_rows)} training rows of at most {config.data.max_length} tokens, "
        f"{len(prepared.eval_rows)} held-out rows",
    ]
    for name, alignment in alignments.items():
        weights = prepared.arm_weights(name)
        terms = " + ".join(f"{weight:g} {term}" for term, weight in weights.model_dump().items() if weight)
        lines += ["", f"arm {name}: loss = {terms}"]
        if alignment is not None:
            lines += _explain_alignment(alignment, prepared.teacher, student, inputs)
        if alignment is not None and not weights.interchange:
            lines.append("  nothing is swapped in training: no term needs counterfactual runs")
        lines += _explain_cost(prepared, name, alignment, student)
    lines += ["", "verification"]
    lines += _explain_alignment(verified, prepared.teacher, student, inputs)
    return "\n".join(lines)


@torch.no_grad()
def _can_run(model: PreTrainedModel, inputs: dict[str, Tensor]) -> str:
    InterchangeModel(model, {}).base_run({name: value.to(model.device) for name, value in inputs.items()})
    return "runs"


def _describe(model: PreTrainedModel) -> str:
    config = model.config
    return (
        f"{type(model).__name__}, {config.num_hidden_layers} blocks, width {config.hidden_size}, "
        f"{model.num_parameters():,} parameters"
    )


def _explain_alignment(
    alignment: Alignment, teacher: PreTrainedModel, student: PreTrainedModel, inputs: dict[str, Tensor]
) -> list[str]:
    policy = alignment.positions.model_dump(exclude_none=True)
    lines = [
        f"  alignment {alignment.name}; positions "
        + ", ".join(f"{key} {value}" for key, value in policy.items())
        + f"; sources {alignment.sources.kind}"
    ]
    sides = {"teacher": teacher, "student": student}
    engines = {
        side: InterchangeModel(model, resolve(alignment, model, side))  # pyright: ignore[reportArgumentType]
        for side, model in sides.items()
    }
    for engine in engines.values():
        engine.measure({name: value.to(engine.model.device) for name, value in inputs.items()})
    for variable, probability in zip(alignment.variables, alignment.probabilities, strict=True):
        lines.append(f"  variable {variable.name}, drawn with probability {probability:.3g}")
        for side, engine in engines.items():
            for site in engine.sites[variable.name]:
                part = "whole vector" if site.ranges is None else f"neurons {[list(r) for r in site.ranges]}"
                read = "" if site.read == site.write else f", read from {site.read}"
                lines.append(f"    {side:8}{site.write} ({part}){read}")
            cut = engine.cuts[variable.name]
            depth = engine.model.config.num_hidden_layers
            again = depth if cut is None else depth - 1 - cut
            lines.append(f"    {'':8}counterfactual run computes {again} of {depth} blocks again")
    return lines


def step_cost(
    prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel
) -> tuple[ExpectedCost, int]:
    """Return what a step of an arm is expected to cost, judged by its first rows, and the tokens of these."""
    objective, batch, settings = _first_step(prepared, arm, alignment, student)
    return expected_cost(objective, batch, alignment, settings), int(batch["attention_mask"].sum())


def _first_step(
    prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel, rows: int | None = None
) -> tuple[Objective, dict[str, Tensor], CausalDistillationConfig]:
    """Return an arm's objective, its first rows (as many as a step has, if not told) and its settings."""
    settings = prepared.arm_training(arm, Path("unused"))
    rows = min(rows or settings.train_batch_size, len(prepared.train_rows))
    batch = prepared.collator([prepared.train_rows[index] for index in range(rows)])
    batch = {name: value.to(settings.device) for name, value in batch.items()}
    student.to(settings.device)  # pyright: ignore[reportArgumentType]
    prepared.teacher.to(settings.device)  # pyright: ignore[reportArgumentType]
    return make_objective(student, prepared.teacher, alignment, settings), batch, settings


def _explain_cost(prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel) -> list[str]:
    cost, tokens = step_cost(prepared, arm, alignment, student)
    lines = [f"  matrix products of a step on {tokens:,} tokens, on average", f"    {'':26}{'GFLOP':>10}{'GB':>8}"]
    for name, part in cost.parts.items():
        lines.append(f"    {name:26}{part.flops / 1e9:>10.3f}{4 * part.elements / 1e9:>8.3f}")
    lines.append(
        f"    {'all':26}{cost.flops / 1e9:>10.3f}{4 * sum(p.elements for p in cost.parts.values()) / 1e9:>8.3f}"
    )
    if cost.flops > cost.plain_flops:
        lines.append(f"    {cost.flops / cost.plain_flops:.2f} times the same step without counterfactual runs")
    lines.append(
        f"    floor: {cost.floor_seconds:.3g} s, the time of these products alone on this machine now, with "
        f"{torch.get_num_threads()} threads"
    )
    return lines


def device() -> torch.device:
    """The device that runs go to: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
