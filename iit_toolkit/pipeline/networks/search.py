"""Search for a teacher's variables in a finished network: chosen on one half of the rows, confirmed on the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.figures.sites import write_site_figure
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED, write_outcomes
from iit_toolkit.analysis.statistics.site_matrix import SITE_SEARCH_SCHEMA, SearchedSite, SiteMatrix
from iit_toolkit.analysis.verification.site_search import (
    PARTS,
    candidate_sites,
    choose_sites,
    search_sites,
    searched_alignment,
)
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.yaml_files import read_yaml
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from iit_toolkit.files.paths import require_path
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.pipeline.networks.check import certify_networks, require_rows
from iit_toolkit.pipeline.networks.facts import certified
from iit_toolkit.pipeline.networks.objects import program_named
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks, program_variables
from iit_toolkit.pipeline.networks.rows import HELD_OUT, fingerprint_of_tensors
from iit_toolkit.pipeline.networks.run import verified_networks
from iit_toolkit.pipeline.search import EXPLORATORY, confirmation, document_head
from iit_toolkit.runs.folder import RunFolder, write_atomically, write_json
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.working import written_at_once

_TO_BE_FOUND = [{"component": "searched.output"}]
"""In the place of a student's sites, where an alignment names none."""


@told_if_out_of_memory("search", "lower verification.batch_size")
def search_networks(
    config: NetworkRunConfig,
    student: str,
    output: str | Path,
    *,
    parts: Iterable[int] = PARTS,
    modules: Sequence[str] = (),
) -> Path:
    """Search for the site of every variable in a finished network.

    The sites are chosen on one half of the held-out rows. The alignment that they make is verified on the other half,
    with all controls, by the measure of the config's verification.

    Args:
        config: Gives teacher, the student's function, rows and settings of the verification. Variables and sources are
            those of its alignment, whose sites of the student are not looked at and may be left out. Without one, the
            variables are all of the program that are neither inputs nor its answer.
        student: The folder of the student's weights.
        output: The folder to write `search.json`, `alignment.yaml`, the tables of outcomes and figures to; new or
            empty.
        parts: Into how many equal ranges of neurons the output of a module is parted.
        modules: The paths of the modules that are tried; all if there are none.

    Raises:
        UserError: If teacher, weights, alignment, modules or rows don't fit, there are too few rows, a variable has no
            site that can be chosen, or the folder is taken.
    """
    prepared = PreparedNetworks(_asking(config))
    with written_at_once(output) as folder:
        asked = prepared.verified_alignment()
        _refuse_learned(asked)
        require_rows(prepared, [asked])
        if prepared.program is not None and prepared.config.teacher.program is not None:
            refuse_failed(certified(prepared.program, prepared.rows.single[HELD_OUT], program_variables(asked)))
        model = prepared.student_of(student)
        choosing, confirming = halves(prepared.rows.drawn[HELD_OUT], config.verification.pairs, config.seed)
        sites = candidate_sites(model, choosing, parts, modules)
        first = {name: sites[0] for name in (one.name for one in asked.variables)}
        refuse_failed(certify_networks(prepared, model, searched_alignment(asked, first, asked.name)))
        phase(f"swapping {len(sites)} sites on {len(choosing)} rows")
        matrix = search_sites(
            prepared.teacher,
            model,
            asked,
            sites,
            choosing,
            pairs=len(choosing),
            batch_size=config.verification.batch_size,
            seed=config.seed,
            measure=config.verification.measure,
        )
        chosen = choose_sites(matrix)
        alignment = searched_alignment(asked, chosen, f"{config.name}-searched")
        phase(f"confirming the sites on {len(confirming)} other rows")
        refuse_failed(certify_networks(prepared, model, alignment))
        students = {"student": model, UNTRAINED: prepared.control(alignment, model)}
        verification = verified_networks(confirming, prepared, alignment, students, "student", len(confirming), {})
        phase("computing measures and intervals")
        prepared.refuse_changed_teacher()
        data = {
            half: {"examples": len(some), "fingerprint": fingerprint_of_tensors(some)}
            for half, some in {"choosing": choosing, "confirming": confirming}.items()
        }
        document = {
            **document_head(SITE_SEARCH_SCHEMA, config, NETWORKS, config.teacher.name, student, data),
            "note": EXPLORATORY,
            "matrix": asdict(matrix),
            "map": [{"variable": name, "site": matrix.sites.index(site)} for name, site in chosen.items()],
            "confirmation": confirmation(config, verification, "student", UNTRAINED),
        }
        _write(folder, document, alignment, verification, matrix, chosen)
    return folder.path


def halves(rows: TensorRows, most: int, seed: int) -> tuple[TensorRows, TensorRows]:
    """Part rows at random in two halves, so that no row of data is base or source in both.

    If rows have sources of their own, pairs are left out whose base and source fell into different halves.

    Args:
        rows: The rows.
        most: At most so many of them are taken.
        seed: Of the draw.

    Raises:
        UserError: If a half would hold too few rows for an interval.
    """
    count, needed = min(most, len(rows)), 2 * MINIMUM_CLUSTERS
    if count < needed:
        raise UserError(
            f"a search needs {needed} held-out rows or more, one half to choose and one to confirm, but "
            f"verification.pairs is {most} and the data give {len(rows)}; raise the one or give more of the other"
        )
    generator = torch.Generator().manual_seed(seed)
    taken = torch.randperm(len(rows), generator=generator)[:count]
    read = [name for name in ("example_id", "source_example_id") if name in rows.columns]
    numbers = torch.stack([rows.columns[name].cpu()[taken] for name in read], 1)
    known = numbers.unique()
    first = torch.isin(numbers, known[torch.randperm(len(known), generator=generator)[: len(known) // 2]])
    found = [taken[inside.all(1)].sort().values for inside in (first, ~first)]
    if (fewest := min(map(len, found))) < MINIMUM_CLUSTERS:
        raise UserError(
            f"a search parts the held-out rows in two halves that share none, of {MINIMUM_CLUSTERS} pairs or more "
            f"each, but one half of these {count} has {fewest}; give more rows or raise verification.pairs"
        )
    one, other = (TensorRows({name: column[some] for name, column in rows.columns.items()}) for some in found)
    return one, other


def _asking(config: NetworkRunConfig) -> NetworkRunConfig:
    """Return the config with an alignment of its variables, whose sites of the student may not be known yet."""
    given = {"verification": config.verification.alignment}
    given |= {f"arms.{name}": arm.alignment for name, arm in config.arms.items()}
    where, content = next(((name, one) for name, one in given.items() if one is not None), ("", None))
    if isinstance(content, str):
        content = read_yaml(Path(require_path(content, f"{where}.alignment")))
    if content is None:
        content = _of_all_variables(config)
    if isinstance(content, dict) and isinstance(variables := content.get("variables"), list):
        content = {**content, "variables": [_with_a_student(one) for one in variables]}
    by_this = config.verification.model_copy(update={"alignment": content})
    return config.model_copy(update={"verification": by_this})


def _with_a_student(variable: Any) -> Any:
    return {"student": _TO_BE_FOUND, **variable} if isinstance(variable, Mapping) else variable


def _of_all_variables(config: NetworkRunConfig) -> dict[str, Any]:
    """Return an alignment of every variable of the program that is neither an input nor its answer."""
    if config.teacher.program is None:
        raise UserError(
            "nothing says which sites of the teacher to search for, and it is no program; give verification.alignment, "
            "with the teacher's sites of every variable"
        )
    names = _between(program_named(config.teacher.program, "teacher.program"))
    if not names:
        raise UserError(
            f"teacher.program: {config.teacher.program} has no variable between its inputs and its answer; give "
            "verification.alignment, with the variables to search for"
        )
    sources = "paired" if config.data.balance == "changed" else "in_batch"
    variables = [{"name": name, "teacher": [{"variable": name}]} for name in names]
    return {"name": "every variable", "variables": variables, "sources": {"kind": sources}}


def _between(program: CausalModel) -> list[str]:
    ends: Collection[str] = {*program.inputs, program.answer}
    return [name for name in program.order if name not in ends]


def _refuse_learned(alignment: Alignment) -> None:
    if alignment.learns_in("teacher"):
        raise UserError(
            f"alignment {alignment.name}: a search keeps the teacher's sites, but a `subspace` of the teacher is only "
            "known once it is learned with a student; give `neurons` of the teacher"
        )


def _write(
    folder: RunFolder,
    document: Mapping[str, Any],
    alignment: Alignment,
    verification: Verification,
    matrix: SiteMatrix,
    chosen: Mapping[str, SearchedSite],
) -> None:
    """Write the files of a search; `search.json` last, so that if it is there, all are."""
    write_site_figure(matrix, chosen, folder.figures)
    write_outcomes(verification.outcomes, folder.outcomes)
    assert verification.controls is not None  # since a student is judged
    write_outcomes(verification.controls, folder.controls)
    write_atomically(folder.alignment, alignment.to_yaml())
    write_json(folder.path / "search.json", document)
