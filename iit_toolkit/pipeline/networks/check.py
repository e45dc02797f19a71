"""What must hold of a run of networks before it spends anything."""

from __future__ import annotations

from collections.abc import Iterable
from logging import getLogger

import torch
from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.data.batch import Batch
from iit_toolkit.distillation.networks import step_flops
from iit_toolkit.errors import UserError, listed
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_sides import certify_sides
from iit_toolkit.interchange.checks import Check
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import SitedSide, side_of
from iit_toolkit.interchange.swap import Swap
from iit_toolkit.pipeline.networks.facts import certified
from iit_toolkit.pipeline.networks.learned import fresh_subspaces, require_learner
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks, program_variables, with_program
from iit_toolkit.pipeline.networks.rows import HELD_OUT, TRAIN, shared_inputs
from iit_toolkit.runs.progress import phase

_LOG = getLogger(__name__)
_TRIED_ROWS = 16


def validate_networks(config: NetworkRunConfig) -> list[Check]:
    """Check a config on its program, networks and rows."""
    return validate_prepared_networks(PreparedNetworks(config))


def validate_prepared_networks(prepared: PreparedNetworks) -> list[Check]:
    """As `validate_networks`, on what is loaded already.

    Raises:
        UserError: If something named is not there or no such thing, a setting is unusable, or an alignment fits
            neither side.
    """
    phase("checking program, networks and rows")
    config = prepared.config
    verified = prepared.verified_alignment()
    alignments = {"verification": verified}
    for name in config.arms:
        prepared.arm_training(name)
        one = prepared.arm_alignment(name)
        if one is not None:
            alignments[name] = one
    require_learner(prepared, verified)
    require_rows(prepared, alignments.values())
    single = prepared.rows.single
    checks = [Check("data", True, f"{len(single[TRAIN]):,} training rows, {len(single[HELD_OUT]):,} held-out rows")]
    _warn_of_rows(prepared)
    if prepared.program is not None:
        for split, rows in single.items():
            found = certified(prepared.program, rows, program_variables(verified))
            checks += [Check(f"{check.name} ({split})", check.passed, check.detail) for check in found]
    student = prepared.new_student()
    told: list[Alignment] = []
    for name, alignment in alignments.items():
        if alignment not in told:
            _warn_of_paths(prepared, name, alignment)
            _warn_of_dead_sites(prepared, student, name, alignment)
            told.append(alignment)
        checks += [
            Check(f"{name}: {check.name}", check.passed, check.detail)
            for check in certify_networks(prepared, student, alignment)
            if "program: " not in check.name  # they are asked on all rows above
        ]
    if all(check.passed for check in checks):
        for name in config.arms:
            settings = prepared.arm_training(name).model_dump()
            rows = prepared.rows.drawn[TRAIN]
            cost = step_flops(student, prepared.teacher, prepared.arm_alignment(name), rows, **settings)
            checks.append(Check(f"{name}: a step", True, f"its losses are finite; {cost.flops / 1e9:.3g} GFLOP"))
    return checks


def certify_networks(prepared: PreparedNetworks, student: nn.Module, alignment: Alignment) -> list[Check]:
    """Certify both sides of an alignment on the first held-out rows, and the program's if there are three.

    Raises:
        UserError: If it does not fit a side.
    """
    learned = fresh_subspaces(prepared, alignment, student)
    own, batch = _tried(prepared, student, alignment, learned)
    other = side_of(prepared.teacher, alignment, "teacher", own.device, subspaces=learned)
    other.eval()
    checks = certify_sides(other, own, batch)
    if prepared.config.verification.program is not None:
        assert prepared.program is not None
        for part in ("teacher", "student"):
            aligned = with_program(alignment, part)
            model = prepared.teacher if part == "teacher" else student
            side = side_of(model, aligned, "student", subspaces=learned if aligned.learns else None)
            side.eval()
            found = certify_sides(side_of(prepared.program, aligned, "teacher", side.device), side, batch, part)
            checks += [Check(f"program and {part}: {one.name}", one.passed, one.detail) for one in found]
    return checks


def require_rows(prepared: PreparedNetworks, alignments: Iterable[Alignment]) -> None:
    """Check that rows have the sources that alignments take.

    Raises:
        UserError: If they have none.
    """
    for alignment in alignments:
        for split, rows in prepared.rows.drawn.items():
            if alignment.sources.kind == "paired" and "source_example_id" not in rows.columns:
                raise UserError(
                    f"data: {split} rows have no sources, which alignment {alignment.name} takes; give "
                    "data.balance: changed, return TensorRows.pairs(...), or leave `sources` out"
                )


def _tried(
    prepared: PreparedNetworks, student: nn.Module, alignment: Alignment, learned: LearnedSubspaces | None
) -> tuple[SitedSide, Batch]:
    """Return the student's side in eval mode, and the first held-out rows."""
    own = side_of(student, alignment, "student", subspaces=learned)
    own.eval()
    rows = prepared.rows.drawn[HELD_OUT]
    batch = rows.batch(torch.arange(min(_TRIED_ROWS, len(rows))))
    return own, {name: value.to(own.device) for name, value in batch.items()}


def _warn_of_paths(prepared: PreparedNetworks, where: str, alignment: Alignment) -> None:
    """Warn of inputs of the program that the answer depends on beside all aligned variables."""
    past = prepared.teacher.past(program_variables(alignment)) if isinstance(prepared.teacher, CausalModel) else []
    if past:
        _LOG.warning(
            "%s: the answer depends on %s past the aligned variables, so the student needs neurons for that, and the "
            "leak check fails if they are at the same places; align a variable on that path, too",
            where,
            listed(past),
        )


@torch.no_grad()
def _warn_of_dead_sites(prepared: PreparedNetworks, student: nn.Module, where: str, alignment: Alignment) -> None:
    """Warn of variables whose swap moves no answer of the student at all."""
    side, batch = _tried(prepared, student, alignment, fresh_subspaces(prepared, alignment, student))
    rows, length = batch["special_tokens_mask"].shape
    swapped = torch.ones(rows, length, dtype=torch.bool)
    others = Swap(torch.arange(rows).roll(1), swapped, torch.arange(length).expand(rows, length)).to(side.device)
    base = side.base_run(side.reads(batch), list(side.variables))
    for name in side.variables:
        if torch.equal(side.logits(side.counterfactual_run(base, name, others)), side.logits(base)):
            _LOG.warning(
                '%s: swapping "%s" in the student moves none of its logits in %d rows: its answers do not depend on '
                "these sites",
                where,
                name,
                rows,
            )


def _warn_of_rows(prepared: PreparedNetworks) -> None:
    single, settings = prepared.rows.single, prepared.config.verification
    seen = shared_inputs(single[HELD_OUT], single[TRAIN])
    if seen:
        _LOG.warning(
            "data: the inputs of %s of %s held-out rows are those of training rows",
            f"{seen:,}",
            f"{len(single[HELD_OUT]):,}",
        )
    bases = min(len(single[HELD_OUT]), settings.pairs)
    if bases < MINIMUM_CLUSTERS:
        _LOG.warning(
            "%d held-out rows are verified, so the verdict will be INCONCLUSIVE: %d are needed; give more rows or "
            "raise verification.pairs",
            bases,
            MINIMUM_CLUSTERS,
        )
