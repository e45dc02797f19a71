"""What must hold of a run before it spends anything: certification on its live models and rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.config.task import FACTS
from iit_toolkit.config.training_arguments import refuse_unusable
from iit_toolkit.data.batch import model_inputs
from iit_toolkit.data.pretrained import has_tokenizer, load_tokenizer
from iit_toolkit.data.readable import readable_tokens
from iit_toolkit.data.same_tokenizer import tokenizer_difference
from iit_toolkit.data.shared import count_seen, count_shared
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.data.tables import lists_of, numbers_of
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError, one_line, shown
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.certify import certify_alignment, certify_models, sites_can_be_tried
from iit_toolkit.interchange.checks import Check, attempt
from iit_toolkit.interchange.left_out import left_out_side
from iit_toolkit.pipeline.explanation import first_step
from iit_toolkit.pipeline.prepare import Prepared, tokenizer_settings
from iit_toolkit.pipeline.weak_swaps import warn_of_weak_swaps
from iit_toolkit.runs.progress import phase

_LOG = getLogger(__name__)
_ROWS = 4
_COMPARED_ROWS = 64
_READ_BACK = ("model_type", "num_labels", "num_hidden_layers", "hidden_size", "vocab_size", "tie_word_embeddings")
"""Entries of a configuration without which its weights don't fit: transformers leaves out what seems a default."""


def validate(config: RunConfig) -> list[Check]:
    """Check a config on its live models and data; see `iit_toolkit.interchange.certify`."""
    return validate_prepared(Prepared(config))


def validate_prepared(prepared: Prepared) -> list[Check]:
    """As `validate`, on what is loaded already.

    Raises:
        UserError: If students would be verified on what they are trained on, or as for `require_batches`.
    """
    config = prepared.config
    if config.data.train_split == config.data.eval_split:
        raise UserError(
            f"data.train_split and data.eval_split are both {config.data.eval_split}: students would be verified on "
            "what they were trained on; give two, such as train[:90%] and train[90%:]"
        )
    phase("checking models, data and alignments")
    student = prepared.new_student()
    alignments = [(name, prepared.arm_alignment(name, student)) for name in config.arms]
    verified = prepared.verified_alignment(student)
    if verified.learns and all(one is None or one.variables != verified.variables for _, one in alignments):
        raise UserError(
            "verification.alignment has learned subspaces, but no arm trains them; give an arm the same variables"
        )
    alignments.append(("verification", verified))
    for arm in config.arms:  # this loads the data, so it comes after the checks above
        require_batches(prepared, arm)
    _require_rows("held-out", prepared.eval_rows)
    _require_unseen(prepared, "data", config.data.eval_split, prepared.eval_rows)
    for name, data in config.evaluation.items():
        _require_unseen(prepared, f"evaluation.{name}", data.eval_split, prepared.evaluation_rows[name])
    held_out = f"{len(prepared.eval_rows)} held-out rows of {_count_texts(prepared.eval_rows)} texts"
    checks = [Check("data", True, f"{len(prepared.train_rows)} training rows, {held_out}")]
    checks += [Check(f"mixture.{name}", True, f"{len(rows)} rows") for name, rows in prepared.mixed_rows.items()]
    _warn_of_few_texts(prepared)
    for name, rows in prepared.evaluation_rows.items():
        checks.append(Check(f"evaluation.{name}", True, f"{len(rows)} rows"))
    if config.student.checkpoint is not None:
        checks.append(certify_tokenizer(prepared, config.student.checkpoint))
    models = _certify_models(prepared, student, trains=True)
    checks += models
    done: dict[str, Alignment] = {}
    for name, alignment in alignments:
        if alignment is not None and alignment not in done.values() and sites_can_be_tried(models):
            done[name] = alignment
            found = _certify_alignment(prepared, student, alignment, trains=True)
            checks += [Check(f"{name}: {check.name}", check.passed, check.detail) for check in found]
    checks.append(certify_saving(prepared, student))
    if all(check.passed for check in checks):
        checks.append(certify_answers(prepared))
        for name in config.arms:
            found = certify_losses(prepared, name, student)
            checks += [Check(f"{name}: {check.name}", check.passed, check.detail) for check in found]
    if all(check.passed for check in checks):
        teacher, before = prepared.teacher, prepared.teacher.device
        teacher.to(device())  # pyright: ignore[reportArgumentType]
        warn_of_weak_swaps(prepared, done)
        teacher.to(before)  # pyright: ignore[reportArgumentType]
    return checks


def require_batches(prepared: Prepared, arm: str) -> None:
    """Check an arm's training settings, and that the training rows make a batch.

    Raises:
        UserError: If a setting is unusable, or there are too few rows.
    """
    settings, rows = prepared.arm_training(arm, Path("unused")), prepared.train_rows
    _require_rows("training", rows)
    config = prepared.config
    if settings.both_directions and (not config.data.paired or FACTS[config.task].classes):
        raise UserError(
            f"arms.{arm}: training.both_directions needs pairs, and a language model that answers in both of their "
            "texts; leave it out"
        )
    whole = settings.train_batch_size
    if settings.dataloader_drop_last and len(rows) < whole:
        raise UserError(
            f"arms.{arm}: {len(rows)} training rows make no whole batch of {whole}, and dataloader_drop_last keeps no "
            "other; give more data or smaller batches"
        )
    for mixed in prepared.mixture(arm):
        _require_rows(f"mixture.{mixed.name}", prepared.mixed_rows[mixed.name])
        mixed.require_terms(prepared.arm_weights(arm))
    refuse_unusable(settings, f"arms.{arm}.training" if prepared.config.arms[arm].training else "training")


def _require_rows(name: str, rows: Dataset) -> None:
    if len(rows) < 2:
        raise UserError(f"data: only {len(rows)} {name} row, but an interchange needs 2; give more or longer texts")


def _count_texts(rows: Dataset) -> int:
    return len(np.unique(numbers_of(rows, "text_id"))) if "text_id" in rows.column_names else len(rows)


def _warn_of_few_texts(prepared: Prepared) -> None:
    rows = prepared.eval_rows
    texts = _count_texts(rows.select(range(min(prepared.config.verification.pairs, len(rows)))))
    if texts < MINIMUM_CLUSTERS:
        _LOG.warning(
            "the verified rows are of %s, so the verdict will be INCONCLUSIVE: %d are needed; give more texts or raise "
            "verification.pairs",
            count(texts, "text"),
            MINIMUM_CLUSTERS,
        )


def _require_unseen(prepared: Prepared, where: str, split: str, rows: Dataset) -> None:
    """Warn of rows that students are trained on; refuse to verify on them if they are the majority."""
    trained = prepared.config.data.train_split
    for name, mixed in prepared.mixed_rows.items():
        if seen := count_seen(rows, mixed):
            _LOG.warning(
                "%s: %s of %s rows (%s) are of texts of mixture.%s", where, f"{seen:,}", len(rows), split, name
            )
    same, seen = (count(rows, prepared.train_rows) for count in (count_shared, count_seen))
    what = "training rows" if seen == same else "of training texts"
    message = f"{where}: {seen:,} of {len(rows):,} rows ({split}) are {what} ({trained})"
    if rows is prepared.eval_rows and 2 * seen > len(rows):
        raise UserError(
            f"{message}, so students would be verified on what they were trained on; give splits that share no texts, "
            "such as train[:90%] and train[90%:]"
        )
    if seen:
        _LOG.warning(message)


def certify_on_rows(
    prepared: Prepared, student: PreTrainedModel, alignment: Alignment | None, *, trains: bool = True
) -> list[Check]:
    """Certify an alignment on the first held-out rows, and on the shortest and the longest row of all.

    Args:
        prepared: Gives teacher and rows.
        student: The student.
        alignment: The alignment, if any.
        trains: Whether the student is to be trained, so that gradient must reach it.
    """
    checks = _certify_models(prepared, student, trains)
    if alignment is not None and sites_can_be_tried(checks):
        checks += _certify_alignment(prepared, student, alignment, trains)
    return checks


def _certify_models(prepared: Prepared, student: PreTrainedModel, trains: bool) -> list[Check]:
    batch = _tried_rows(prepared, student, trains)
    pad, padded = SpecialTokens.of(prepared.tokenizer).pad, _rows_differ(prepared, trains)
    return certify_models(prepared.teacher, student, batch, task=prepared.config.task, pad=pad, padded=padded)


def _certify_alignment(prepared: Prepared, student: PreTrainedModel, alignment: Alignment, trains: bool) -> list[Check]:
    batch, task = _tried_rows(prepared, student, trains), prepared.config.task
    return certify_alignment(prepared.teacher, student, alignment, batch, task=task, trains=trains)


def _tried_rows(prepared: Prepared, student: PreTrainedModel, trains: bool) -> dict[str, Tensor]:
    """Return a batch of the first held-out rows, and of the shortest and the longest row of all."""
    rows = prepared.eval_rows
    if min(len(rows), prepared.config.verification.pairs) < 2:
        raise UserError("verification needs at least 2 held-out rows, and verification.pairs of 2 or more")
    limit = readable_tokens(student)
    config = prepared.config
    read = {"data": config.data} | ({f"mixture.{name}": one for name, one in config.mixture.items()} if trains else {})
    for where, data in read.items():
        if limit is not None and data.max_length > limit:
            raise UserError(f"{where}.max_length is {data.max_length}, but the student reads at most {limit} tokens")
    sets = [rows, prepared.train_rows] if trains else [rows]
    return prepared.collator([*(rows[index] for index in range(min(_ROWS, len(rows)))), *_extremes(sets)])


def _extremes(sets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Return the shortest and the longest row of several sets: how a model reads rows may depend on their length."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for some in sets:
        lengths = np.concatenate([sizes for _, sizes in lists_of(some, "input_ids")])
        shortest = np.where(lengths > 0, lengths, lengths.max()).argmin()  # an empty row is no row to a model
        rows += [(int(lengths[at]), some[int(at)]) for at in (shortest, lengths.argmax())]
    return [choose(rows, key=lambda row: row[0])[1] for choose in (min, max)]


def _rows_differ(prepared: Prepared, trains: bool) -> bool:
    """Say whether any two rows differ in length, so that one is padded to the other's."""
    trained = [prepared.train_rows, *prepared.mixed_rows.values()] if trains else []
    sets = [prepared.eval_rows, *prepared.evaluation_rows.values(), *trained]
    if any("source_input_ids" in rows.column_names for rows in sets):
        return True
    compute = cast(Any, pc)  # it makes most of its functions at import
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
    """Check that a student's config and generation config can be saved: transformers reads more than it writes."""
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
        again = type(student.config).from_pretrained(folder)
    for entry in _READ_BACK:
        before, after = getattr(student.config, entry, None), getattr(again, entry, None)
        if before != after:
            remedy = "give its classes other names than LABEL_0, ... in id2label" if "label" in entry else "correct it"
            return Check(
                name,
                False,
                f"its saved config.json would be read with {entry} {shown(after)}, not {shown(before)}; {remedy} in "
                "the config.json it comes from",
            )
    return Check(name, True, f"{', '.join(parts)} can be saved")


def certify_losses(prepared: Prepared, arm: str, student: PreTrainedModel) -> list[Check]:
    """Check that an arm's losses can compare what its alignment aligns, and swap what it leaves out, if they do."""
    weights = prepared.arm_weights(arm)
    if not (weights.aligned_mse or weights.strict):
        return []
    objective, batch, _ = first_step(prepared, arm, prepared.arm_alignment(arm, student), student, _ROWS)
    checks: list[Check] = []
    if weights.aligned_mse:
        checks.append(attempt("aligned activations", student, lambda: _aligned_difference(objective, batch)))
    if weights.strict:
        checks.append(attempt("left-out neurons", student, lambda: _left_out(objective, batch)))
    return checks


@torch.no_grad()
def _aligned_difference(objective: Objective, batch: Mapping[str, Tensor]) -> str:
    value = objective(batch, weights=ObjectiveWeights(aligned_mse=1.0)).total
    return f"their mean squared difference is {float(value):.3g}"


@torch.no_grad()
def _left_out(objective: Objective, batch: Mapping[str, Tensor]) -> str:
    student = objective.student
    run = student.base_run(student.reads(batch), student.variables)
    for variable in student.variables:
        left_out_side(student, run, variable)
    return "there are some at the sites of every variable"


def certify_tokenizer(prepared: Prepared, checkpoint: str) -> Check:
    """Check that a student's checkpoint comes with the teacher's tokenizer, or with none."""
    if not has_tokenizer(checkpoint):
        return Check("same tokenizer", True, "the student has none of its own, so it uses the teacher's")
    try:
        tokenizer = load_tokenizer(checkpoint, **tokenizer_settings(prepared.config.task))
    except UserError as error:
        return Check("same tokenizer", False, f"{checkpoint} has files of a tokenizer, but {error}")
    teachers = prepared.tokenizer
    some = prepared.eval_rows.select(range(min(_COMPARED_ROWS, len(prepared.eval_rows))))
    texts = [str(teachers.decode(ids, skip_special_tokens=True)) for ids in some["input_ids"]]
    difference = tokenizer_difference(teachers, tokenizer, texts)
    if difference is not None:
        return Check("same tokenizer", False, f"{difference}; teacher and student must share one tokenizer")
    return Check("same tokenizer", True, f"{len(teachers)} tokens, the special tokens and the ids of texts agree")


def device() -> torch.device:
    """Return the device that runs go to: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
