"""Search for an alignment of a finished student: chosen on one half of the pairs, confirmed on the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.positions import Positions, SpanPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.report.figures.layers import write_heatmap
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.layer_matrix import SEARCH_SCHEMA
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED, write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.verification.search import Matrix, answer_layers, choose_map, layer_matrix, mapped_alignment
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.config.loading import AnyRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.distillation.students import student_from_checkpoint
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.pipeline.check import certify_on_rows, certify_tokenizer, device
from iit_toolkit.pipeline.prepare import Prepared, fingerprint_of_rows, untrained_control
from iit_toolkit.pipeline.verifying import verified_on
from iit_toolkit.runs.folder import RunFolder, write_atomically, write_json
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import provenance
from iit_toolkit.runs.working import written_at_once

EXPLORATORY = (
    "The cells of the matrix are exploratory: the best of many is high by chance, too. "
    "What speaks for the map is its confirmation, on pairs that had no part in choosing it."
)


@told_if_out_of_memory("search", "lower verification.batch_size or data.max_length")
def search(config: RunConfig, student: str, output: str | Path) -> Path:
    """Search for the map of layers by which a finished student answers most like the config's teacher.

    The map is chosen on the first half of the held-out pairs and verified on the second, both by the measure of the
    config's verification. Positions and sources are those of that verification, or spans and the batch if it does not
    say.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student.
        output: The folder to write `search.json`, `alignment.yaml`, `outcomes.parquet` and figures to; new or empty.

    Raises:
        UserError: If student or data don't fit, there are too few pairs, no layers can be aligned, or the folder is
            taken.
    """
    with written_at_once(output) as folder:
        inputs = search_inputs(config, student)
        phase(f"swapping every layer on {len(inputs.choosing)} pairs")
        answers = answer_layers(
            inputs.prepared.teacher,
            inputs.student,
            inputs.choosing,  # pyright: ignore[reportArgumentType]
            inputs.prepared.collator,
            task=config.task,
            positions=inputs.positions,
            sources=inputs.sources,
            pairs=len(inputs.choosing),
            batch_size=config.verification.batch_size,
            seed=config.seed,
        )
        matrix = layer_matrix(answers, measure=config.verification.measure)
        layers = choose_map(matrix)
        alignment = mapped_alignment(layers, f"{config.name}-searched", inputs.positions, inputs.sources)
        phase(f"confirming the map of layers on {len(inputs.confirming)} other pairs")
        verification = _confirm(inputs, alignment)
        phase("computing measures and intervals")
        inputs.prepared.refuse_changed_teacher()
        document = {
            **inputs.described(SEARCH_SCHEMA),
            "note": EXPLORATORY,
            "matrix": asdict(matrix),
            "map": [{"student_layer": s, "teacher_layer": t} for s, t in layers.items()],
            "confirmation": confirmation(config, verification, "student", UNTRAINED),
        }
        _write(folder, document, alignment, verification, matrix, layers)
    return folder.path


@dataclass(frozen=True)
class SearchInputs:
    """What a search works on.

    Attributes:
        prepared: The config with what it names.
        name: Folder or Hub id of the student.
        student: The student, on the device.
        positions: The positions that are swapped.
        sources: Where sources come from.
        choosing: Held-out rows on which to choose.
        confirming: Other held-out rows, on which to confirm.
    """

    prepared: Prepared
    name: str
    student: PreTrainedModel
    positions: Positions
    sources: Sources
    choosing: Dataset
    confirming: Dataset

    def described(self, schema: str) -> dict[str, Any]:
        """Return what a document says of where its numbers come from."""
        config = self.prepared.config
        halves = {"choosing": self.choosing, "confirming": self.confirming}
        data = {
            name: {"examples": len(rows), "fingerprint": fingerprint_of_rows(rows)} for name, rows in halves.items()
        }
        return document_head(schema, config, config.task, config.teacher, self.name, data)


def document_head(
    schema: str, config: AnyRunConfig, task: str, teacher: str, student: str, data: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how the document of a search begins.

    Args:
        schema: Of the document.
        config: The config.
        task: What is answered.
        teacher: What the teacher is called.
        student: The student's folder, or its Hub id.
        data: How many examples each half of the rows has, and their fingerprint.
    """
    return {
        "schema": schema,
        "name": config.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "seed": config.seed,
        "task": task,
        "teacher": teacher,
        "student": student,
        "data": data,
        "config": config.model_dump(mode="json"),
    }


def search_inputs(config: RunConfig, student: str) -> SearchInputs:
    """Load what a search works on; all rows of a text are in one half.

    Raises:
        UserError: If student or data don't fit, or a half would hold too few rows for an interval.
    """
    prepared = Prepared(config)
    model = student_from_checkpoint(prepared.teacher, student)
    refuse_failed([certify_tokenizer(prepared, student), *certify_on_rows(prepared, model, None, trains=False)])
    positions, sources = _policy(prepared, model)
    rows = prepared.eval_rows
    count = min(config.verification.pairs, len(rows))
    if count < 2 * MINIMUM_CLUSTERS:
        raise UserError(
            f"a search needs {2 * MINIMUM_CLUSTERS} pairs or more, one half to choose and one to confirm, but "
            f"verification.pairs is {config.verification.pairs} and the data give {len(rows)} held-out rows; "
            "raise the one or give more of the other"
        )
    halves = _halves(rows, count)
    if min(map(len, halves)) < MINIMUM_CLUSTERS:
        raise UserError(
            f"a search parts the texts in two halves, of {MINIMUM_CLUSTERS} pairs or more each, but one text holds "
            f"most of the {count} held-out rows; give more texts"
        )
    for side in (prepared.teacher, model):
        side.to(device()).eval()  # pyright: ignore[reportArgumentType]
    return SearchInputs(prepared, student, model, positions, sources, *(rows.select(half) for half in halves))


def _halves(rows: Dataset, count: int) -> tuple[list[int], list[int]]:
    """Split the first `count` rows into halves of about as many rows, with all rows of a text in one half."""
    texts = rows["text_id"][:count] if "text_id" in rows.column_names else range(count)
    ends = np.cumsum(list(Counter(texts).values()))  # texts in the order of their first rows
    first = set(list(dict.fromkeys(texts))[: int(np.abs(ends - count // 2).argmin()) + 1])
    halves: tuple[list[int], list[int]] = ([], [])
    for row, text in enumerate(texts):
        halves[text not in first].append(row)
    return halves


def confirmation(config: AnyRunConfig, verification: Verification, judged: str, control: str) -> dict[str, Any]:
    """Return what a document says of a verification on the confirming rows."""
    settings = config.verification
    bootstrap: dict[str, Any] = {"resamples": settings.resamples, "seed": config.seed}
    asked: dict[str, Any] = {"measure": settings.measure, "margin": settings.margin, **bootstrap}
    verdict = judge(verification.outcomes, judged, controls=verification.controls, untrained=control, **asked)
    return {
        "summary": summarise(verification.outcomes, **bootstrap).to_dict(),
        "verdict": verdict.to_dict(),
        "controls": {"self_swap": asdict(verification.self_swap)},
    }


def _policy(prepared: Prepared, student: PreTrainedModel) -> tuple[Positions, Sources]:
    config = prepared.config
    given = [config.verification.alignment, *(arm.alignment for arm in config.arms.values())]
    if all(alignment is None for alignment in given):
        return SpanPositions(), Sources()
    alignment = prepared.verified_alignment(student)
    return alignment.positions, alignment.sources


def _confirm(inputs: SearchInputs, alignment: Alignment) -> Verification:
    """Verify the chosen alignment as any other, on the rows that had no part in choosing it."""
    prepared, rows = inputs.prepared, inputs.confirming
    students = {"student": inputs.student, **untrained_control(prepared, alignment, inputs.student)}
    return verified_on(rows, prepared, alignment, students, len(rows), None, {})


def _write(
    folder: RunFolder,
    document: Mapping[str, Any],
    alignment: Alignment,
    verification: Verification,
    matrix: Matrix,
    layers: Mapping[int, int],
) -> None:
    """Write the files of a search; `search.json` last, so that if it is there, all are."""
    write_heatmap(matrix, layers, folder.figures)
    write_outcomes(verification.outcomes, folder.outcomes)
    write_atomically(folder.alignment, alignment.to_yaml())
    write_json(folder.path / "search.json", document)
