"""How many pairs a search needs to find its map: by effect R², by KL recovered and by answers.

Three pairs of models, each searched once on 1,024 pairs of Wikipedia. Random subsets of the bases then say how often
fewer pairs give the map that all of them give. Nothing is run again for a subset.

* planted: A student of 5 blocks, and as its teacher the same model with an identity block after each. The map is known.
* trained: A student of 3 blocks, trained for 400 steps on what blocks 0, 2 and 4 of its teacher do.
* truncated: Blocks 0, 2 and 4 of a BERT-type teacher of 6, without any training.

Run from the repository root: `python -m benchmarks.search_power SHARED`, where SHARED is a folder with
`models/stories260K`, `models/minilm-mlm` and `data/enwiki2015`. Writes `docs/search-power.md` and
`docs/search-power.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import iit_toolkit as iit
from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.verification.search import LayerAnswers, answer_layers, choose_map, layer_matrix
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.text import load_texts
from iit_toolkit.data.tokenization import shuffled, tokenize_corpus
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.errors import UserError

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAIRS, LENGTH, STEPS = 1024, 48, 400
SIZES = (8, 16, 32, 64, 128, 256, 512)
SUBSETS, ENOUGH = 20, 0.9
NAMES = ("effect_r2", "kl_recovered", "effective_iia", "iia")
HEADER = f"""# Pairs that a search needs

`iit-toolkit search` chooses the map of layers by a measure. This page says how many pairs each measure needs to choose
the map that it chooses from {PAIRS:,} pairs. Each number is the share of {SUBSETS} random subsets that give that map.
Cells of few bases count here, which a search itself leaves undefined below 20.

*Enough* is the smallest number of pairs from which on the share is {ENOUGH:.0%} or more. A measure that does not get
there needs more than {SIZES[-1]}. The shares have standard errors of up to 11 percentage points. A map that is found
again is a stable one, which need not be the true one: only the planted map is known.

`python -m benchmarks.search_power` writes this page and says what is measured. `search-power.json` holds all numbers.
"""


def main(shared: Path) -> None:
    """Search every setting, and write the page."""
    torch.set_num_threads(1)
    settings: dict[str, Callable[[Path], LayerAnswers]] = {
        "planted": planted,
        "trained": trained,
        "truncated": truncated,
    }
    found = {name: counted(setting(shared)) for name, setting in settings.items()}
    (DOCS / "search-power.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (DOCS / "search-power.md").write_text(document(found), encoding="utf-8")


def planted(shared: Path) -> LayerAnswers:
    """Search a model against itself with an identity block after each of its own."""
    student = AutoModelForCausalLM.from_pretrained(shared / "models" / "stories260K")
    config = LlamaConfig(**{**student.config.to_dict(), "num_hidden_layers": 2 * student.config.num_hidden_layers})
    teacher = LlamaForCausalLM(config)
    weights: dict[str, Any] = {}
    for name, value in student.state_dict().items():
        head, _, rest = name.partition("layers.")
        layer, _, rest = rest.partition(".")
        weights[f"{head}layers.{2 * int(layer)}.{rest}" if rest else name] = value
    teacher.load_state_dict(weights, strict=False)
    identities: Any = teacher.model.layers[1::2]
    for block in identities:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
    return _answers(shared, "stories260K", teacher, student)


def trained(shared: Path) -> LayerAnswers:
    """Train a student of three blocks with interventions, and search it."""
    torch.manual_seed(0)
    teacher = AutoModelForCausalLM.from_pretrained(shared / "models" / "stories260K")
    student = student_from_teacher(teacher, [0, 2, 4])
    with tempfile.TemporaryDirectory() as folder:
        arguments = iit.CausalDistillationConfig(
            folder, max_steps=STEPS, per_device_train_batch_size=16, seed=0, use_cpu=True, report_to="none"
        )
        iit.CausalDistillationTrainer(
            student,
            teacher,
            iit.Alignment.pairs(first=(0, 0), second=(2, 1)),
            arguments,
            train_dataset=_rows(shared, "stories260K", "test", 16 * STEPS),
            processing_class=_tokenizer(shared, "stories260K"),
        ).train()
    return _answers(shared, "stories260K", teacher, student)


def truncated(shared: Path) -> LayerAnswers:
    """Search three blocks of a teacher, untrained."""
    teacher = AutoModelForMaskedLM.from_pretrained(shared / "models" / "minilm-mlm", dtype=torch.float32)
    return _answers(shared, "minilm-mlm", teacher, student_from_teacher(teacher, [0, 2, 4]))


def counted(answers: LayerAnswers) -> dict[str, Any]:
    """Return, by measure, the map of all pairs and the share of subsets that give it, by number of pairs."""
    found: dict[str, Any] = {}
    bases = np.unique(answers.base)
    for measure in NAMES:
        whole = choose_map(layer_matrix(answers, measure=measure))
        shares: dict[str, float] = {}
        for size in SIZES:
            generator = np.random.default_rng([0, size])  # the same subsets for all measures
            subsets = [generator.choice(bases, size, replace=False) for _ in range(SUBSETS)]
            shares[str(size)] = sum(_map(answers, one, measure) == whole for one in subsets) / SUBSETS
        found[measure] = {"map": {str(s): t for s, t in whole.items()}, "shares": shares, "enough": enough(shares)}
    return found


def enough(shares: dict[str, float]) -> int | None:
    """Return the smallest number of pairs from which on all shares are high; None if there is none."""
    low = [int(size) for size, share in shares.items() if share < ENOUGH]
    return min((int(size) for size in shares if int(size) > max(low, default=0)), default=None)


def document(found: dict[str, Any]) -> str:
    """Return the page, in Markdown."""
    text = HEADER
    doc = (__doc__ or "").split("\n")
    for name, measured in found.items():
        text += f"\n## {name.capitalize()}\n\n"
        text += next(line.split(": ", 1)[1] for line in doc if line.startswith(f"* {name}: ")) + "\n\n"
        rows = [
            [
                MEASURES[measure].title,
                ", ".join(f"{s}: {t}" for s, t in one["map"].items()),
                *(f"{share:.0%}" for share in one["shares"].values()),
                str(one["enough"] or f"more than {SIZES[-1]}"),
            ]
            for measure, one in measured.items()
        ]
        text += markdown_table(["measure", "map (student: teacher)", *map(str, SIZES), "enough"], rows) + "\n\n"
        text += f"{_ratio(measured)}\n"
    return text


def _ratio(measured: dict[str, Any]) -> str:
    one, other = measured["effect_r2"], measured["effective_iia"]
    if one["enough"] is None:
        return f"Effect R² does not find its map reliably with {SIZES[-1]} pairs."
    least = other["enough"] or SIZES[-1]
    words = "more than " if other["enough"] is None else ""
    text = (
        f"By effective IIA, a search needs {words}{least / one['enough']:g} times the pairs that it needs by effect R²."
    )
    return text if one["map"] == other["map"] else f"{text} The two maps differ."


def _map(answers: LayerAnswers, bases: np.ndarray[Any, Any], measure: str) -> dict[int, int] | None:
    try:
        return choose_map(layer_matrix(answers.of_cases(np.isin(answers.base, bases)), 1, measure))
    except UserError:  # no swap changes anything in so few pairs
        return None


def _answers(shared: Path, name: str, teacher: Any, student: Any) -> LayerAnswers:
    task = "causal_lm" if name == "stories260K" else "masked_lm"
    rows = _rows(shared, name, "validation", PAIRS)
    collator = collator_for(task, _tokenizer(shared, name), 0)
    return answer_layers(teacher, student, rows, collator, task=task, pairs=PAIRS)  # pyright: ignore[reportArgumentType]


def _rows(shared: Path, name: str, split: str, count: int) -> Any:
    files = {split: str(shared / "data" / "enwiki2015" / f"{split}.parquet")}
    texts = load_texts("parquet", split, data_files=files)
    return shuffled(tokenize_corpus(texts, _tokenizer(shared, name), LENGTH)).select(range(count))


def _tokenizer(shared: Path, name: str) -> Any:
    return AutoTokenizer.from_pretrained(shared / "models" / name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
