"""What can be said in words about a run of networks before it spends anything."""

from __future__ import annotations

from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.distillation.cost import fastest_rate
from iit_toolkit.distillation.networks import step_flops
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.networks.rows import HELD_OUT, TRAIN


def explain_networks(config: NetworkRunConfig) -> str:
    """Say in words, before any training, what a config's program, networks, alignments and steps are."""
    prepared = PreparedNetworks(config)
    verified, student = prepared.verified_alignment(), prepared.new_student()
    alignments = {name: prepared.arm_alignment(name) for name in config.arms}
    rows = prepared.rows.single
    balance = "" if config.data.balance == "none" else f", balanced by {config.data.balance}"
    lines = [
        f"# {config.name}",
        f"teacher   {config.teacher.name}: {_describe(prepared.teacher)}",
        f"student   {config.student.network}: {_describe(student)}",
        f"data      {len(rows[TRAIN])} training rows, {len(rows[HELD_OUT])} held-out rows{balance}",
    ]
    if prepared.program is not None:
        lines += ["", f"program {config.program}, which answers with {prepared.program.answer}"]
        lines += [f"  {line}" for line in _explain_program(prepared.program)]
    for name, alignment in alignments.items():
        training = prepared.arm_training(name)
        terms = " + ".join(f"{weight:g} {term}" for term, weight in training.weights.items())
        lines += ["", f"arm {name}: loss = {terms}; {training.steps} steps of {training.batch_size} rows"]
        if alignment is not None:
            lines += _explain_alignment(alignment)
        lines += _explain_cost(prepared, name, student)
    return "\n".join([*lines, "", "verification", *_explain_alignment(verified)])


def training_cost(prepared: PreparedNetworks, arm: str) -> tuple[int, int, float]:
    """Return an arm's steps, the operations in their matrix products, and the least seconds that these take.

    The rate is that of one large product where the network is.

    Raises:
        UserError: If the arm's settings or alignment do not hold on program, networks and rows.
    """
    student, training = prepared.new_student(), prepared.arm_training(arm)
    alignment, rows = prepared.arm_alignment(arm), prepared.rows.drawn[TRAIN]
    flops = training.steps * step_flops(student, prepared.teacher, alignment, rows, **training.model_dump()).flops
    weight = next(student.parameters())
    return training.steps, flops, flops / fastest_rate(weight.device, weight.dtype)


def _describe(model: nn.Module | CausalModel) -> str:
    if isinstance(model, CausalModel):
        return f"a program of {len(model.order)} variables"
    return f"{type(model).__name__}, {sum(one.numel() for one in model.parameters()):,} parameters"


def _explain_program(program: CausalModel) -> list[str]:
    lines: list[str] = []
    for name in program.order:
        reads = f"reads {', '.join(program.parents[name])}" if program.parents[name] else "an input"
        values = f"; {len(program.domains[name])} values" if name in program.domains else ""
        lines.append(f"{name}: {reads}{values}")
    return lines


def _explain_alignment(alignment: Alignment) -> list[str]:
    lines = [f"  alignment {alignment.name}; sources {alignment.sources.kind}"]
    lines += ["", *(f"    {line}" for line in alignment.ascii(0, 0).splitlines()), ""]
    for variable, probability in zip(alignment.variables, alignment.probabilities, strict=True):
        lines.append(f"  variable {variable.name}, drawn with probability {probability:.3g}")
    return lines


def _explain_cost(prepared: PreparedNetworks, name: str, student: nn.Module) -> list[str]:
    settings = prepared.arm_training(name).model_dump()
    rows = prepared.rows.drawn[TRAIN]
    cost = step_flops(student, prepared.teacher, prepared.arm_alignment(name), rows, **settings)
    lines = [f"  matrix products of a step: {cost.flops / 1e9:.3g} GFLOP"]
    if cost.flops > cost.plain_flops:
        lines.append(f"  {cost.flops / cost.plain_flops:.2f} times the same step without counterfactual runs")
    return lines
