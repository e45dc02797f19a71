"""Search for an alignment of a finished student: chosen on one half of the pairs, confirmed on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.spec import Positions, Sources, SpanPositions
from iit_toolkit.analysis.heatmap import write_heatmap
from iit_toolkit.analysis.metrics import summarise
from iit_toolkit.analysis.outcomes import write_outcomes
from iit_toolkit.analysis.search import Matrix, answer_layers, choose_map, layer_matrix, mapped_alignment
from iit_toolkit.analysis.verdict import MINIMUM_CLUSTERS, judge
from iit_toolkit.analysis.verify import Verification, verify
from iit_toolkit.distillation.student import student_from_checkpoint
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.certify import refuse_failed
from iit_toolkit.pipeline.check import certify_on_rows, certify_tokenizer, device
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.run import UNTRAINED, new_folder
from iit_toolkit.runs.folder import RunFolder, write_atomically, write_json
from iit_toolkit.runs.provenance import fingerprint, provenance
from iit_toolkit.runs.schema import RunConfig

SEARCH_SCHEMA = "iit_toolkit/search/1"
EXPLORATORY = (
    "The cells of the matrix are exploratory: the best of many is high by chance, too. "
    "What speaks for the map is its confirmation, on pairs that had no part in choosing it."
)


def search(config: RunConfig, student: str, output: str | Path) -> Path:
    """Search the map of layers by which a finished student answers most like the config's teacher.

    The map is chosen on the first half of the held-out pairs and verified on the second. Positions and sources are
    those of the config's verification, or spans and the batch where it says nothing of them.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student.
        output: The folder to write `search.json`, `alignment.yaml`, `outcomes.parquet` and figures to; new or empty.

    Raises:
        UserError: If student or data don't fit, there are too few pairs, no layers can be aligned, or the folder is
            taken.
    """
    prepared = Prepared(config)
    with new_folder(output) as folder:
        model = student_from_checkpoint(prepared.teacher, student)
        refuse_failed([certify_tokenizer(prepared, student), *certify_on_rows(prepared, model, None)])
        positions, sources = _policy(prepared, model)
        choosing, confirming = halves(prepared)
        for side in (prepared.teacher, model):
            side.to(device()).eval()  # pyright: ignore[reportArgumentType]
        answers = answer_layers(
            prepared.teacher,
            model,
            choosing,  # pyright: ignore[reportArgumentType]
            prepared.collator,
            task=config.task,
            positions=positions,
            sources=sources,
            pairs=len(choosing),
            batch_size=config.verification.batch_size,
            seed=config.seed,
        )
        matrix = layer_matrix(answers)
        layers = choose_map(matrix)
        alignment = mapped_alignment(layers, f"{config.name}-searched", positions, sources)
        verification = _confirm(prepared, model, alignment, confirming)
        document = {
            **described(SEARCH_SCHEMA, prepared, student, choosing, confirming),
            "note": EXPLORATORY,
            "matrix": asdict(matrix),
            "map": [{"student_layer": s, "teacher_layer": t} for s, t in layers.items()],
            "confirmation": _confirmation(config, verification),
        }
        _write(folder, document, alignment, verification, matrix, layers)
    return folder.path


def halves(prepared: Prepared) -> tuple[Dataset, Dataset]:
    """Return the held-out rows on which to choose, and those on which to confirm; neighbours stay together.

    Raises:
        UserError: If a half would hold too few rows for an interval.
    """
    rows = prepared.eval_rows
    count = min(prepared.config.verification.pairs, len(rows))
    if count < 2 * MINIMUM_CLUSTERS:
        raise UserError(
            f"a search needs {2 * MINIMUM_CLUSTERS} pairs or more, one half to choose and one to confirm, but "
            f"verification.pairs is {prepared.config.verification.pairs} and the data give {len(rows)} held-out rows; "
            "raise the one or give more of the other"
        )
    return rows.select(range(count // 2)), rows.select(range(count // 2, count))


def described(schema: str, prepared: Prepared, student: str, choosing: Dataset, confirming: Dataset) -> dict[str, Any]:
    """Return what a search's document says of where its numbers come from."""
    config = prepared.config
    return {
        "schema": schema,
        "name": config.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "seed": config.seed,
        "task": config.task,
        "teacher": config.teacher,
        "student": student,
        "data": {
            name: {"examples": len(rows), "fingerprint": fingerprint(rows["input_ids"])}
            for name, rows in (("choosing", choosing), ("confirming", confirming))
        },
        "config": config.model_dump(mode="json"),
    }


def _policy(prepared: Prepared, student: PreTrainedModel) -> tuple[Positions, Sources]:
    config = prepared.config
    given = [config.verification.alignment, *(arm.alignment for arm in config.arms.values())]
    if all(alignment is None for alignment in given):
        return SpanPositions(), Sources()
    alignment = prepared.verified_alignment(student)
    return alignment.positions, alignment.sources


def _confirm(prepared: Prepared, student: PreTrainedModel, alignment: Alignment, rows: Dataset) -> Verification:
    """Verify the chosen alignment as any other, on the rows that had no part in choosing it."""
    config = prepared.config
    students = {"student": student}
    untrained = prepared.new_student().to(device()).eval()  # pyright: ignore[reportArgumentType]
    if untrained.config.num_hidden_layers == student.config.num_hidden_layers:
        students[UNTRAINED] = untrained
    return verify(
        prepared.teacher,
        students,
        alignment,
        rows,  # pyright: ignore[reportArgumentType]
        prepared.collator,
        task=config.task,
        pairs=len(rows),
        batch_size=config.verification.batch_size,
        top_k=config.verification.top_k,
        seed=config.seed,
    )


def _confirmation(config: RunConfig, verification: Verification) -> dict[str, Any]:
    settings = config.verification
    bootstrap = {"resamples": settings.resamples, "seed": config.seed}
    verdict = judge(verification.outcomes, "student", untrained=UNTRAINED, margin=settings.margin, **bootstrap)
    return {
        "summary": summarise(verification.outcomes, **bootstrap).to_dict(),
        "verdict": verdict.to_dict(),
        "controls": {"self_swap": asdict(verification.self_swap)},
    }


def _write(
    folder: RunFolder,
    document: Mapping[str, Any],
    alignment: Alignment,
    verification: Verification,
    matrix: Matrix,
    layers: Mapping[int, int],
) -> None:
    """Write the files of a search; `search.json` last, so that where it stands, all stand."""
    write_heatmap(matrix, layers, folder.figures)
    write_outcomes(verification.outcomes, folder.outcomes)
    write_atomically(folder.alignment, alignment.to_yaml())
    write_json(folder.path / "search.json", document)
