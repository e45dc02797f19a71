"""Trace a config's teacher: where it holds what its answers depend on, before anything is aligned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.figures.trace import write_trace_figure
from iit_toolkit.analysis.report.trace_page import RULE, neurons_line, place_line, trace_page
from iit_toolkit.analysis.statistics.teacher_trace import BLOCK, TRACE_SCHEMA
from iit_toolkit.analysis.verification.trace import TRACED, refuse_depth, traced_sites
from iit_toolkit.analysis.verification.trace import propose as propose_alignment
from iit_toolkit.analysis.verification.trace import trace as trace_teacher
from iit_toolkit.analysis.verification.trace_neurons import find_neurons
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.data.tokenization import spread_examples
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.check import device
from iit_toolkit.pipeline.prepare import Prepared, fingerprint_of_rows
from iit_toolkit.runs.folder import write_atomically, write_json
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import provenance
from iit_toolkit.runs.working import written_at_once


@told_if_out_of_memory("trace", "lower verification.batch_size or data.max_length")
def trace(
    config: RunConfig,
    output: str | Path,
    *,
    pairs: int = 256,
    components: Sequence[str] = TRACED,
    heads: bool = False,
    neurons: bool = False,
    propose: bool = False,
    student_layers: int | None = None,
) -> Path:
    """Trace the config's teacher on training rows, so that the rows of a verification have no part in it.

    Args:
        config: Gives teacher and data, batch size and seed.
        output: The folder to write `trace.json`, `README.md` and figures to, and `alignment.yaml` if one is proposed;
            new or empty.
        pairs: Pairs of base and source; at most the number of rows is used.
        components: Components of a block.
        heads: Whether single attention heads are swapped, too.
        neurons: Whether to find the neurons that carry the effect at the place to swap.
        propose: Propose an alignment for the config's student.
        student_layers: Propose an alignment for a student of so many blocks instead.

    Raises:
        UserError: If teacher, data or components don't fit, no alignment can be proposed, or the folder is taken.
    """
    with written_at_once(output) as folder:
        prepared = Prepared(config)
        teacher = prepared.teacher
        traced_sites(teacher, components, heads=heads)  # what is wrong with these needs no data
        if propose and student_layers is None:
            student_layers = int(prepared.new_student().config.num_hidden_layers)
        if student_layers is not None:
            refuse_depth(student_layers, teacher.config.num_hidden_layers)
            if BLOCK not in components:
                raise UserError(f"an alignment is proposed by block outputs; name {BLOCK} among the components, too")
        if pairs < 2:
            raise UserError(f"pairs is {pairs}; give 2 or more")
        rows = spread_examples(prepared.train_rows, pairs)
        teacher.to(device())  # pyright: ignore[reportArgumentType]
        phase(f"tracing the teacher on {len(rows)} rows")
        found = trace_teacher(
            teacher,
            rows,  # pyright: ignore[reportArgumentType]
            prepared.collator,
            task=config.task,
            components=components,
            heads=heads,
            pairs=pairs,
            batch_size=config.verification.batch_size,
            resamples=config.verification.resamples,
            seed=config.seed,
        )
        carriers = None
        if neurons:
            rows_of_neurons = spread_examples(prepared.train_rows, 2 * pairs)
            phase(f"finding neurons on {len(rows_of_neurons)} rows")
            carriers = find_neurons(
                teacher,
                rows_of_neurons,  # pyright: ignore[reportArgumentType]
                found,
                prepared.collator,
                pairs=pairs,
                batch_size=config.verification.batch_size,
                resamples=config.verification.resamples,
                seed=config.seed,
            )
        prepared.refuse_changed_teacher()
        proposed: Alignment | None = None
        if student_layers is not None:
            proposed = propose_alignment(found, student_layers, f"{config.name}-traced")
        phase("writing the report")
        plot = write_trace_figure(found, folder.figures)
        text = None if proposed is None else proposed.to_yaml()
        write_atomically(folder.path / "README.md", trace_page(found, config.teacher, plot, text, carriers))
        if text is not None:
            write_atomically(folder.alignment, text)
        document = {
            "schema": TRACE_SCHEMA,
            "name": config.name,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "provenance": provenance(),
            "seed": config.seed,
            "teacher": config.teacher,
            "data": {"examples": len(rows), "fingerprint": fingerprint_of_rows(rows)},
            "trace": found.to_dict(),
            "rule": RULE,
            "place": place_line(found),
            "neurons": None if carriers is None else {**carriers.to_dict(), "line": neurons_line(carriers)},
            "student_layers": student_layers,
            "alignment": None if proposed is None else proposed.to_dict(),
            "config": config.model_dump(mode="json"),
        }
        write_json(folder.path / "trace.json", document)
    return folder.path
