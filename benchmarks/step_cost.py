"""What a causal distillation step costs beside a plain one, a naive one, and the time of its matrix products alone.

    python -m benchmarks.step_cost                      every shape
    python -m benchmarks.step_cost small base           some shapes
    python -m benchmarks.step_cost small --rounds 5     a trial, not written down

What is measured whole is written to docs/step-cost.json and between the marks of docs/step-cost.md, shape by shape;
`python -m benchmarks.cost_page` writes the page anew from the numbers.

Every variant trains a student of its own. All take one step per round, in turn, in an order that is reversed every
other round, on one thread. The process's CPU time is compared, in medians. Variants that claims rest on run in two
processes in the same rounds: with malloc as it is, and with malloc that keeps its memory (`benchmarks.allocators`).
Their ratios are medians of each round's.
A step is the objective, its backward pass, clipping and AdamW. The floor is the time of a step's matrix products alone.
Every round measures it, too, in two ways. Each product is repeated by itself, so it finds its operands in the cache.
All products run in the order of the step, each on operands of its own. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from benchmarks.allocators import DEFAULT, KEPT, compared, measured, serve
from benchmarks.cost_page import allocators_table, table, write_page
from benchmarks.memory import high_water
from benchmarks.products import Ledger, floor_seconds, flops, step_products
from benchmarks.replay import Replay
from benchmarks.steps import (
    HandHooks,
    PlainLosses,
    by_index,
    naive_step,
    stock_pyvene_step,
    textbook_plain_step,
)
from iit_toolkit.alignment import Alignment, preset, resolve
from iit_toolkit.config.task import Task
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.interchange import Interchange, InterchangeModel, draw_swap, other_rows
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "step-cost.json"


@dataclass(frozen=True)
class Shape:
    """Sizes of one comparison."""

    task: Task
    teacher_layers: int
    student_layers: int
    width: int
    heads: int
    batch: int
    length: int
    words: int
    rounds: int
    variants: tuple[str, ...] = ()  # all, if none


LARGE = (
    "naive, three passes", "stock pyvene", "causal, middle", "causal, middle, hand-written hooks",
    "causal, middle + cos", "causal, late", "causal, full", "plain, textbook", "plain",
)  # fmt: skip
SHAPES = {
    "small": Shape("masked_lm", 12, 6, 256, 4, 8, 64, 30_522, 5),
    "small-vocabulary": Shape("masked_lm", 12, 6, 256, 4, 8, 64, 2_000, 9),
    "base": Shape("masked_lm", 12, 6, 768, 12, 8, 128, 30_522, 3, LARGE),
    "causal-lm": Shape("causal_lm", 12, 6, 256, 4, 8, 64, 151_936, 3, LARGE),
}


BOTH = (
    "naive, three passes", "naive, rows selected by index", "causal, middle", "plain, textbook",
    "plain, textbook, rows selected by index", "plain",
)  # fmt: skip
"""Variants that claims rest on: they are taken with either allocator."""


class Setting:
    """The models, the batch and the swaps of one shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        torch.manual_seed(0)
        self.teacher = self.model(shape.teacher_layers).eval().requires_grad_(False)
        ids = torch.randint(5, shape.words, (shape.batch, shape.length))
        labels = ids.clone()
        if shape.task == "masked_lm":
            labels[torch.rand(ids.shape) >= 0.15] = -100
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        self.generator = torch.Generator().manual_seed(1)

    def model(self, layers: int) -> Any:
        """Make a model of this many blocks."""
        shape = self.shape
        sizes: dict[str, Any] = {
            "vocab_size": shape.words, "hidden_size": shape.width, "num_hidden_layers": layers,
            "num_attention_heads": shape.heads, "intermediate_size": 4 * shape.width,
        }  # fmt: skip
        if shape.task == "masked_lm":
            return BertForMaskedLM(BertConfig(**sizes))
        return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))

    def alignment(self, name: str) -> Alignment:
        """Make a `diito` alignment."""
        return preset(f"diito/{name}", self.shape.teacher_layers, self.shape.student_layers)

    def interchanged(self, variable: str) -> Interchange:
        """Draw an interchange: new sources and spans."""
        eligible = torch.ones_like(self.batch["input_ids"], dtype=torch.bool)
        source = other_rows(self.shape.batch, self.generator)
        swap = draw_swap(self.alignment("middle").positions, source, eligible, eligible, self.generator)
        return Interchange(variable, swap)

    def objective(
        self,
        student: Any,
        alignment: str,
        weights: ObjectiveWeights,
        kind: type[Objective] = Objective,
        side: type[InterchangeModel] = InterchangeModel,
        share_prefix: bool = True,
        **settings: Any,
    ) -> Objective:
        """Make an objective over the teacher and a student."""
        chosen = self.alignment(alignment)
        sides = [
            side(model, resolve(chosen, model, name), share_prefix=share_prefix)
            for name, model in (("teacher", self.teacher), ("student", student))
        ]
        return kind(*sides, weights, self.shape.task, **settings)


Loss = Callable[[int], Tensor]


def losses(setting: Setting) -> dict[str, Callable[[Any], Loss]]:
    """Return what each variant computes, as a function of its student: the loss of the step with a number."""
    causal, plain = ObjectiveWeights.causal(), ObjectiveWeights.standard()

    def ours(alignment: str, weights: ObjectiveWeights, precision: torch.dtype | None = None, **how: Any) -> Any:
        def make(student: Any) -> Loss:
            objective = setting.objective(student, alignment, weights, **how)
            names = [variable.name for variable in setting.alignment(alignment).variables]

            def loss(number: int) -> Tensor:
                interchanges = [setting.interchanged(names[number % len(names)])] if weights.interchange else []
                with torch.autocast("cpu", precision, enabled=precision is not None):
                    return objective(setting.batch, interchanges).total

            return loss

        return make

    def other(step: Callable[..., Tensor]) -> Any:
        def make(student: Any) -> Loss:
            sites = setting.objective(student, "middle", causal)
            return lambda _: step(setting, sites)

        return make

    half = {"precision": torch.bfloat16, "loss_dtype": torch.bfloat16}
    return {
        "naive, three passes": other(naive_step),
        "naive, rows selected by index": other(partial(naive_step, select=by_index)),
        "stock pyvene": other(stock_pyvene_step),
        "sources from the base run": ours("middle", causal, kind=PlainLosses, share_prefix=False),
        "+ restart after the swap": ours("middle", causal, kind=PlainLosses),
        "causal, middle": ours("middle", causal),
        "causal, middle, hand-written hooks": ours("middle", causal, side=HandHooks),
        "causal, middle + cos": ours("middle", ObjectiveWeights.causal_with_cosine()),
        "causal, late": ours("late", causal),
        "causal, full": ours("full", causal),
        "causal, middle, full recomputation": ours("middle", causal, share_prefix=False),
        "causal, middle, labelled tokens": ours(
            "middle", causal, base_tokens="labelled", counterfactual_tokens="labelled"
        ),
        "causal, middle, teacher bfloat16": ours("middle", causal, teacher_dtype=torch.bfloat16),
        "causal, middle, bfloat16": ours("middle", causal, **half),
        "plain, textbook": other(textbook_plain_step),
        "plain, textbook, rows selected by index": other(partial(textbook_plain_step, select=by_index)),
        "plain": ours("middle", plain),
        "plain, bfloat16": ours("middle", plain, **half),
    }


def stepper(setting: Setting, make: Callable[[Any], Loss]) -> Callable[[int], None]:
    """Return a whole training step of a fresh student."""
    torch.manual_seed(1)
    student = setting.model(setting.shape.student_layers).train()
    loss = make(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, fused=True)

    def step(number: int) -> None:
        loss(number).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(name: str, shape: Shape, only: Sequence[str], rounds: int) -> dict[str, Any]:
    """Compare the variants on one shape."""
    setting = Setting(shape)
    variants = [variant for variant in losses(setting) if keep(variant, only)]
    products = ledgers(setting)
    replays = {variant: Replay(found) for variant, found in products.items()}
    floors: dict[str, list[float]] = {variant: [] for variant in products}
    in_order: dict[str, list[float]] = {variant: [] for variant in products}

    def measure_floors(_: int) -> None:
        for variant, found in products.items():
            floors[variant].append(floor_seconds(found))
            started = time.process_time()
            replays[variant].run()
            in_order[variant].append(time.process_time() - started)

    asked = {DEFAULT: variants, KEPT: [variant for variant in variants if variant in BOTH]}
    taken = measured(name, asked, rounds, measure_floors)
    times = {variant: [seconds for seconds, _ in found] for variant, found in taken[DEFAULT].items()}
    both = {allocator: {one: found[one] for one in asked[KEPT]} for allocator, found in taken.items()}
    return {
        "shape": asdict(shape),
        "rounds": rounds,
        "seconds": {variant: spread(found) for variant, found in times.items()},
        "allocators": compared(both, ("naive, three passes", "plain, textbook", "plain")),
        "floor": {
            variant: {
                "gigaflops": flops(found) / 1e9,
                "seconds": statistics.median(floors[variant]),
                "in_order_seconds": statistics.median(in_order[variant]),
            }
            for variant, found in products.items()
        },
        "peak_mb": {variant: peak_memory(name, variant) for variant in times if variant in MEMORY},
    }


MEMORY = ("naive, three passes", "plain, textbook", "causal, middle", "plain")


def keep(variant: str, only: Sequence[str]) -> bool:
    """Whether a variant was asked for."""
    return not only or variant in only


def spread(found: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"median": statistics.median(found), "min": min(found), "max": max(found), "mean": statistics.mean(found)}


def ledgers(setting: Setting) -> dict[str, list[Ledger]]:
    """Return the matrix products of a causal and of a plain step."""
    found: dict[str, list[Ledger]] = {}
    for name, weights in (("causal, middle", ObjectiveWeights.causal()), ("plain", ObjectiveWeights.standard())):
        student = setting.model(setting.shape.student_layers)
        objective = setting.objective(student, "middle", weights)
        variable = setting.alignment("middle").variables[0].name if weights.interchange else None
        found[name] = step_products(objective, setting.batch, variable)
    return found


def peak_memory(name: str, variant: str) -> dict[str, float]:
    """Peak resident memory of a process that takes three steps, and what it held before the first."""
    command = [sys.executable, "-m", "benchmarks.step_cost", name, "--peak-of", variant]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def print_peak(name: str, variant: str) -> None:
    """Take three steps of one variant, and print the process's memory."""
    setting = Setting(SHAPES[name])
    step = stepper(setting, losses(setting)[variant])
    before = high_water()
    for number in range(3):
        step(number)
    print(json.dumps({"before": round(before), "peak": round(high_water())}))


def main() -> None:
    """Compare the variants on the shapes that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help="shapes; all if none")
    parser.add_argument("--rounds", type=int, help="rounds, instead of the shape's own number; not written down")
    parser.add_argument(
        "--only", action="append", default=[], metavar="VARIANT", help="only this variant, not written down; repeatable"
    )
    parser.add_argument("--peak-of", metavar="VARIANT", help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="VARIANTS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    if arguments.peak_of:
        print_peak(arguments.shapes[0], arguments.peak_of)
        return
    if arguments.serve:
        setting, made = Setting(SHAPES[arguments.shapes[0]]), json.loads(arguments.serve)
        makers = losses(setting)
        serve({variant: stepper(setting, makers[variant]) for variant in made})
        return
    for name in arguments.shapes or SHAPES:
        shape = SHAPES[name]
        result = measure(name, shape, arguments.only or shape.variants, arguments.rounds or shape.rounds)
        print(table(name, result))
        print(allocators_table(result))
        if not arguments.only and not arguments.rounds:
            write_down(name, result)


def write_down(name: str, result: dict[str, Any]) -> None:
    """Put one shape's result into the file, in the place of an earlier one."""
    document: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    document[name] = {"created": created, "provenance": provenance(), "threads": 1, **result}
    ordered = {shape: document[shape] for shape in SHAPES if shape in document}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    write_page()


if __name__ == "__main__":
    main()
