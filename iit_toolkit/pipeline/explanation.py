"""What can be said in words about a run before it spends anything: its models, alignments and the cost of its steps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.resolve import ResolvedSubspace
from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.data.batch import both_directions, model_inputs
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.cost import ExpectedCost, expected_cost, fastest_rate
from iit_toolkit.distillation.from_settings import make_objective
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.checks import attempt, refuse_failed
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.progress import phase


def explain(config: RunConfig) -> str:
    """Say in words, before any training, what a config's models, alignments and steps are."""
    prepared = Prepared(config)
    student = prepared.new_student()
    alignments = {name: prepared.arm_alignment(name, student) for name in config.arms}
    verified = prepared.verified_alignment(student)
    inputs = model_inputs(prepared.collator([prepared.eval_rows[0]]))
    for side, model in (("teacher", prepared.teacher), ("student", student)):
        refuse_failed([attempt(side, model, lambda model=model: _can_run(model, inputs))])
    lines = [
        f"# {config.name}",
        f"task      {config.task}",
        f"teacher   {config.teacher}: {_describe(prepared.teacher)}",
        f"student   {_describe(student)}",
        f"data      {len(prepared.train_rows):,} training rows of at most {config.data.max_length} tokens, "
        f"{len(prepared.eval_rows):,} held-out rows",
    ]
    for name, alignment in alignments.items():
        phase(f"counting what a step of {name} costs")
        weights = prepared.arm_weights(name)
        terms = " + ".join(f"{weight:g} {term}" for term, weight in weights.model_dump().items() if weight)
        lines += ["", f"arm {name}: loss = {terms}"]
        if alignment is not None:
            lines += _explain_alignment(alignment, prepared.teacher, student, inputs)
        if alignment is not None and not weights.interchange:
            lines.append("  nothing is swapped in training: no term needs swaps")
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
        + ", ".join(str(value) if key == "kind" else f"{key} {value}" for key, value in policy.items())
        + f"; sources {alignment.sources.kind}"
    ]
    depths = (int(model.config.num_hidden_layers) for model in (teacher, student))
    lines += ["", *(f"    {line}" for line in alignment.ascii(*depths).splitlines()), ""]
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
                part = part if site.subspace is None else _learned(site.subspace)
                read = "" if site.read == site.write else f", read from {site.read}"
                lines.append(f"    {side:8}{site.write} ({part}){read}")
            cut = engine.restart_blocks[variable.name]
            depth = engine.model.config.num_hidden_layers
            again = depth if cut is None else depth - 1 - cut
            lines.append(f"    {'':8}counterfactual run computes {again} of {depth} blocks again")
    return lines


def _learned(subspace: ResolvedSubspace) -> str:
    most = " at most" if subspace.boundary else ""
    shared = ", in a shared rotation" if subspace.shared else ""
    return f"learned subspace of rank {subspace.rank}{most}{shared}"


def step_cost(
    prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel
) -> tuple[ExpectedCost, int]:
    """Return what a step of an arm is expected to cost, judged by its first rows, and their tokens."""
    objective, batch, settings = first_step(prepared, arm, alignment, student)
    mixture = [
        ({name: value.to(settings.device) for name, value in drawn.items()}, mixed.sampler(drawn, objective.task))
        for mixed in prepared.mixture(arm)
        for drawn, _ in [mixed.draw(settings.seed, 0, 0, 0)]
    ]
    tokens = sum(int(one["attention_mask"].sum()) for one in (batch, *(further for further, _ in mixture)))
    return expected_cost(objective, batch, alignment, settings, mixture), tokens


def least_seconds(flops: float, settings: CausalDistillationConfig) -> float:
    """Return the least time that a training's device takes for these operations, at the rate of one large product."""
    halves = settings.bf16 or "bfloat16" in (settings.loss_dtype, settings.teacher_dtype)
    kinds = (torch.float32, torch.bfloat16) if halves else (torch.float32,)
    return flops / max(fastest_rate(settings.device, kind) for kind in kinds)


def first_step(
    prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel, rows: int | None = None
) -> tuple[Objective, dict[str, Tensor], CausalDistillationConfig]:
    """Return an arm's objective, its first rows (by default, as many as a step has) and its settings."""
    settings = prepared.arm_training(arm, Path("unused"))
    rows = min(rows or settings.train_batch_size, len(prepared.train_rows))
    batch = prepared.collator([prepared.train_rows[index] for index in range(rows)])
    batch = both_directions(batch) if settings.both_directions else batch
    batch = {name: value.to(settings.device) for name, value in batch.items()}
    student.to(settings.device)  # pyright: ignore[reportArgumentType]
    prepared.teacher.to(settings.device)  # pyright: ignore[reportArgumentType]
    return make_objective(student, prepared.teacher, alignment, settings), batch, settings


def _explain_cost(prepared: Prepared, arm: str, alignment: Alignment | None, student: PreTrainedModel) -> list[str]:
    cost, tokens = step_cost(prepared, arm, alignment, student)
    lines = [f"  matrix products of a step on {tokens:,} tokens, on average", f"    {'':26}{'GFLOP':>10}"]
    for name, flops in {**cost.parts, "all": cost.flops}.items():
        lines.append(f"    {name:26}{flops / 1e9:>10.3f}")
    if cost.flops > cost.plain_flops:
        lines.append(f"    {cost.flops / cost.plain_flops:.2f} times the same step without counterfactual runs")
    least = least_seconds(cost.flops, prepared.arm_training(arm, Path("unused")))
    lines.append(
        f"    at least {least:.3g} s, at the speed of one large matrix product on this machine now, with "
        f"{count(torch.get_num_threads(), 'thread')}"
    )
    return lines
