"""What a search matrix costs: the engine against stock pyvene, on the same pairs, with the same numbers.

The embedded teacher (6 layers) against a student of 3 of its layers, 512 pairs of 24 tokens from Python's
documentation, one thread. Times are CPU times of this process.

* engine: one base run per model and batch, every layer's counterfactual run only from the swapped block on. It
  compares the layers' effects on the probabilities, too; the cells below are of answers.
* stock pyvene, every layer once: base, source and counterfactual run of each of the 6 + 3 layers, from the input.
* stock pyvene, every cell: the same for both models in each of the 18 cells, as a loop over cells does.

Run from the repository root: `python -m benchmarks.search_cost [PAIRS]`. Prints the table.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from iit_toolkit.alignment import to_pyvene
from iit_toolkit.alignment.positions import SpanPositions
from iit_toolkit.alignment.pyvene_io import stock_arguments
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.verification.cases import Pairs, draw_pairs
from iit_toolkit.analysis.verification.search import LayerAnswers, Matrix, answer_layers, layer_matrix, mapped_alignment
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.data.text import load_python_docs
from iit_toolkit.data.tokenization import tokenize_corpus
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.interchange.pyvene_guard import pv  # imported there without its notice on standard output

LENGTH, BATCH = 24, 32
MEASURE = "effective_iia"
GRADED = ("teacher_effect", "student_effect")
COLUMNS = ("base", "position", "inside")


@dataclass
class Setting:
    """The models and the pairs; rows are equally long, since stock pyvene needs equally many positions per row."""

    teacher: Any
    student: Any
    rows: Any
    collator: Any

    def draw(self) -> dict[str, Any]:
        """Return the arguments with which all three draw the same pairs."""
        return {"task": "masked_lm", "pairs": len(self.rows), "batch_size": BATCH, "seed": 0}

    def batches(self) -> list[Pairs]:
        """Return the pairs that the engine's search draws."""
        pairs = draw_pairs(self.rows, self.collator, SpanPositions(), Sources(), **self.draw(), what="drawing")
        return list(pairs)


def main(pairs: int = 512) -> None:
    """Measure the three ways, and print what each costs and whether their cells are equal."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    setting = prepare(pairs)
    engine(
        replace(setting, rows=setting.rows.select(range(BATCH)))
    )  # the first run of a model pays for what later ones find
    ways: dict[str, Callable[[Setting], Matrix]] = {
        "engine": engine,
        "stock pyvene, every layer once": stock_layers,
        "stock pyvene, every cell": stock_cells,
    }
    print(f"{len(setting.rows)} pairs, 6 x 3 layers; CPU time, one thread\n")
    print("| way | CPU s | times the engine | cells equal to the engine's |\n|---|--:|--:|--:|")
    reference: Matrix | None = None
    first = 0.0
    for name, way in ways.items():
        started = time.process_time()
        matrix = way(setting)
        seconds = time.process_time() - started
        reference, first = reference or matrix, first or seconds
        equal = sum(one == other for one, other in zip(matrix.cells, reference.cells, strict=True))
        print(f"| {name} | {seconds:.1f} | {seconds / first:.1f} | {equal} of {len(matrix.cells)} |", flush=True)


def prepare(pairs: int) -> Setting:
    """Load the models and as many full rows as there will be pairs."""
    teacher = AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    rows = tokenize_corpus(load_python_docs("validation"), tokenizer, max_length=LENGTH)
    full = [
        index for index, ids in enumerate(rows["input_ids"]) if len(ids) == LENGTH and tokenizer.unk_token_id not in ids
    ]
    return Setting(
        teacher,
        student_from_teacher(teacher, [0, 2, 4]).eval(),
        rows.select(full[:pairs]),
        MaskedLanguageCollator(tokenizer),
    )


def engine(setting: Setting) -> Matrix:
    """Return the search itself."""
    answers = answer_layers(setting.teacher, setting.student, setting.rows, setting.collator, **setting.draw())
    return layer_matrix(answers, measure=MEASURE)


@torch.no_grad()
def stock_layers(setting: Setting) -> Matrix:
    """Every layer of each model once, by stock pyvene; cells are put together from the answers."""
    return _of_answers({**_drawn(setting), **_side(setting, "teacher"), **_side(setting, "student")})


@torch.no_grad()
def stock_cells(setting: Setting) -> Matrix:
    """Both models anew in every cell, by stock pyvene."""
    cells = []
    for teacher_layer in range(6):
        for student_layer in range(3):
            sides = _side(setting, "teacher", [teacher_layer]) | _side(setting, "student", [student_layer])
            [cell] = _of_answers({**_drawn(setting), **sides}).cells
            cells.append(type(cell)(teacher_layer, student_layer, cell.moved, cell.outside, cell.inside))
    return Matrix(MEASURE, 6, 3, 20, tuple(cells))


def _of_answers(columns: dict[str, Any]) -> Matrix:
    """Return the matrix of answers alone: graded measures are not asked of stock pyvene."""
    layers = len(columns["teacher"]), len(columns["student"])
    sizes = {name: np.zeros((count, len(columns["base"]))) for name, count in zip(GRADED, layers, strict=True)}
    pairs = np.zeros((*layers, len(columns["base"])))
    graded = {"kl_ignored": sizes["teacher_effect"], "effect_error": pairs, "kl_cf": pairs, **sizes}
    return layer_matrix(LayerAnswers(**columns, **graded), measure=MEASURE)


def _drawn(setting: Setting) -> dict[str, Any]:
    batches = setting.batches()
    return {name: np.concatenate([getattr(pairs.cases, name).numpy() for pairs in batches]) for name in COLUMNS}


def _side(setting: Setting, name: str, layers: list[int] | None = None) -> dict[str, Any]:
    """One model's answers at some of its layers, each with a base, a source and a counterfactual run of its own."""
    model = getattr(setting, name)
    base: list[Any] = []
    swapped: list[Any] = []
    for layer in range(model.config.num_hidden_layers) if layers is None else layers:
        alignment = mapped_alignment({layer: layer}, "one layer")
        config = to_pyvene(alignment, model, name)  # pyright: ignore[reportArgumentType]
        run = partial(_stock_run, model, pv.IntervenableModel(config, model), config)
        found = [run(pairs) for pairs in setting.batches()]
        base = [answers for answers, _ in found]
        swapped.append(np.concatenate([answers for _, answers in found]))
    return {f"{name}_base": np.concatenate(base), name: np.stack(swapped)}


def _stock_run(model: Any, view: Any, config: Any, pairs: Pairs) -> tuple[Any, Any]:
    rows = slice(pairs.bases)
    every = {key: pairs.base[key] for key in ("input_ids", "attention_mask")}
    inputs = {key: value[rows] for key, value in every.items()}
    source = {key: value[pairs.swap.source[rows]] for key, value in every.items()}
    places = pairs.swap.mask[rows].nonzero()[:, 1].view(pairs.bases, -1)
    taken = pairs.swap.source_position[rows].gather(1, places)
    base = model(**inputs).logits
    _, changed = view(inputs, [source], **stock_arguments(config, 0, (taken, places)))
    return tuple(logits[pairs.cases.tokens[rows]].argmax(-1).numpy() for logits in (base, changed.logits))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
