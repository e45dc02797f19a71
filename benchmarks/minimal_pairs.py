"""What two small teachers know of each family of minimal pairs, and how far a swap changes their answers.

Of each family and split, 120 pairs are asked, of BLiMP a sample of 240. A masked language model sees a mask in the
place of the answer, of base and source alike; a causal one is asked what comes next where the answer begins. Its answer
is the argmax over the whole vocabulary. Swaps replace the output of a whole block at the tokens of the swapped words,
source into base.

Run from the repository root: `python -m benchmarks.minimal_pairs SHARED`, where SHARED is a folder with
`models/minilm-mlm`, `models/stories260K` and `data/blimp` (default: `../shared`). Writes `docs/minimal-pairs.md` and
`docs/minimal-pairs.json`.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.data.minimal_pairs import FAMILIES, SPLITS, PairRow, answer_tokens, blimp

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUMBERS, PAGE = DOCS / "minimal-pairs.json", DOCS / "minimal-pairs.md"
COUNT, SEED, BATCH = 120, 0, 64
MODELS = {"minilm-mlm": "masked_lm", "stories260K": "causal_lm"}
HEADER = f"""# Minimal pairs

`iit_toolkit.data.minimal_pairs` makes pairs of sentences with a question. This page says what two small teachers know
of them, and how often a swap changes what they answer. {COUNT} pairs of each family and split were asked, and a sample
of {2 * COUNT} of `blimp`. Shares have standard errors of up to 5 percentage points.

* *among candidates*: The teacher's answer is one of the candidates.
* *right one preferred*: Of the candidates, the teacher gives the right one the highest probability. This says
  nothing of `blimp`, which has one candidate only.
* *input swap*: The answer changes if the source's words stand in the base.
* *block 0, 1, ...*: The answer changes if the output of that block at the swapped words comes from the source.

In about a quarter of the pairs, the swap keeps the right answer; `attributes`, `story_objects`, `comparatives` and
`ranges` have fewer or none of them. Pairs that a model can't be asked are left out, and counted below.

`python -m benchmarks.minimal_pairs` writes this page and says what is measured. `minimal-pairs.json` holds all numbers.
"""


@dataclass(frozen=True)
class Asked:
    """A pair as a model is asked it: ids of base and source with the answer hidden, and places of tokens."""

    row: PairRow
    base: list[int]
    source: list[int]
    swapped: list[int]
    source_swapped: list[int]
    place: int
    candidates: list[int]


def main(shared: Path) -> None:
    """Measure every family with the teachers of its tasks, and write the page."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, task in MODELS.items():
        tokenizer = AutoTokenizer.from_pretrained(shared / "models" / name)
        kind = AutoModelForMaskedLM if task == "masked_lm" else AutoModelForCausalLM
        model = kind.from_pretrained(shared / "models" / name, dtype=torch.float32).eval()
        found[name] = {}
        for family in FAMILIES.values():
            if task in family.tasks:
                pairs = {split: family.rows(split, min(COUNT, family.size(split)), SEED) for split in SPLITS}
                found[name][family.name] = {split: measured(model, tokenizer, rows) for split, rows in pairs.items()}
                print(name, family.name, *(line(one) for one in found[name][family.name].values()), sep="\n  ")
        if task == "masked_lm":
            found[name]["blimp"] = {"all": measured(model, tokenizer, _some((built := _blimp(shared)).rows))}
            found[name]["blimp"]["all"]["not built"] = built.skipped
    NUMBERS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(document(found), encoding="utf-8")


@torch.no_grad()
def measured(model: Any, tokenizer: Any, rows: list[PairRow]) -> dict[str, Any]:
    """Return shares of the pairs that can be asked, and how many can't be, by reason."""
    lengths: dict[int, list[Asked]] = defaultdict(list)
    skipped = Counter[str]()
    for row in rows:
        one = asked(tokenizer, row)
        if isinstance(one, str):
            skipped[one] += 1
        else:
            lengths[len(one.base)].append(one)
    blocks = _blocks(model)
    totals = Counter[str]()
    for some in lengths.values():
        for start in range(0, len(some), BATCH):
            totals.update(_counts(model, blocks, some[start : start + BATCH]))
    pairs = totals.pop("pairs", 0)
    names = ["among", "preferred", "flips", "input", *(f"block {number}" for number in range(len(blocks)))]
    tokens = answer_tokens(tokenizer, rows)
    return {
        "asked": pairs,
        "skipped": dict(skipped),
        **{name: round(totals[name] / pairs, 4) if pairs else None for name in names},
        "several tokens": sorted({word for one in tokens.values() for word in one.several})[:20],
    }


def asked(tokenizer: Any, row: PairRow) -> Asked | str:
    """Tokenize a pair and hide its answers; return the reason if that is not possible."""
    masked = tokenizer.mask_token_id is not None
    sides = ((row.text, row.span, row.answer), (row.source, row.source_span, row.source_answer))
    ids: list[list[int]] = []
    swapped: list[list[int]] = []
    places: list[list[int]] = []
    for text, span, answer in sides:
        made = tokenizer(text, return_offsets_mapping=True)
        ids.append(list(made["input_ids"]))
        swapped.append(_touching(made["offset_mapping"], span))
        places.append(_touching(made["offset_mapping"], answer))
    if len(swapped[0]) != len(swapped[1]):
        return "the swapped words have different numbers of tokens"
    if places[0][0] != places[1][0]:
        return "the answers stand at different tokens"
    if masked and max(map(len, places)) > 1:
        return "an answer is several tokens"
    if not masked and places[0][0] <= max(swapped[0]):
        return "the answer stands before the swapped words"
    place, first = places[0][0], []
    for word in row.candidates:
        before = row.text[: row.answer[0]]
        made = tokenizer(before + word, return_offsets_mapping=True)
        first.append(made["input_ids"][_touching(made["offset_mapping"], (len(before), len(before + word)))[0]])
    if masked:
        for one in ids:
            one[place] = tokenizer.mask_token_id
        if len(ids[0]) != len(ids[1]):
            return "base and source have different numbers of tokens"
        return Asked(row, ids[0], ids[1], *swapped, place, first)
    return Asked(row, ids[0][:place], ids[1][:place], *swapped, place - 1, first)


def _counts(model: Any, blocks: list[Any], some: list[Asked]) -> Counter[str]:
    base, source = (torch.tensor([getattr(one, side) for one in some]) for side in ("base", "source"))
    place, index = torch.tensor([one.place for one in some]), torch.arange(len(some))

    head = model.cls if hasattr(model, "cls") else model.lm_head

    def answers(ids: torch.Tensor) -> torch.Tensor:
        return head(model.base_model(input_ids=ids).last_hidden_state[index, place])

    kept: dict[int, torch.Tensor] = {}
    with _hooked(blocks, range(len(blocks)), lambda number, hidden: kept.__setitem__(number, hidden.clone())):
        swapped_answer = answers(source).argmax(-1)
    logits = answers(base)
    answer = logits.argmax(-1)
    counts = Counter(pairs=len(some), input=int((swapped_answer != answer).sum()))
    for number in range(len(blocks)):

        def swap(number: int, hidden: torch.Tensor) -> torch.Tensor:
            mixed = hidden.clone()
            for which, one in enumerate(some):
                mixed[which, one.swapped] = kept[number][which, one.source_swapped]
            return mixed

        with _hooked(blocks, [number], swap):
            counts[f"block {number}"] = int((answers(base).argmax(-1) != answer).sum())
    for which, one in enumerate(some):
        counts["among"] += int(answer[which]) in one.candidates
        best = one.candidates[int(logits[which, one.candidates].argmax())]
        counts["preferred"] += best == one.candidates[one.row.candidates.index(one.row.answer_word)]
        counts["flips"] += one.row.flips
    return counts


@contextmanager
def _hooked(blocks: list[Any], numbers: Any, change: Callable[[int, torch.Tensor], Any]) -> Iterator[None]:
    """Let a function see, and replace if it returns something, the output of some blocks."""

    def hook(number: int) -> Any:
        def run(_module: Any, _inputs: Any, output: Any) -> Any:
            made = change(number, output[0] if isinstance(output, tuple) else output)
            if made is None:
                return None
            return (made, *output[1:]) if isinstance(output, tuple) else made

        return run

    handles = [blocks[number].register_forward_hook(hook(number)) for number in numbers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(model: Any) -> list[Any]:
    return list(model.bert.encoder.layer if hasattr(model, "bert") else model.model.layers)


def _touching(offsets: list[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    return [place for place, (low, high) in enumerate(offsets) if low < span[1] and high > span[0] and low < high]


def _blimp(shared: Path) -> Any:
    data = load_dataset("parquet", data_files=str(shared / "data" / "blimp" / "train.parquet"), split="train")
    return blimp(data)


def _some(rows: list[PairRow]) -> list[PairRow]:
    return random.Random(SEED).sample(rows, 2 * COUNT)


def line(one: dict[str, Any]) -> str:
    """Return the numbers of a family and split on one line."""
    return " ".join(f"{name} {value}" for name, value in one.items())


def document(found: dict[str, Any]) -> str:
    """Return the page, in Markdown."""
    text = HEADER
    for name, families in found.items():
        one = next(split for splits in families.values() for split in splits.values())
        blocks = [key for key in one if key.startswith("block ")]
        head = ["family", "split", "pairs", "among candidates", "right one preferred", "input swap", *blocks]
        rows = [
            [family, split, str(got["asked"]), *(_share(got[key]) for key in ("among", "preferred", "input", *blocks))]
            for family, splits in families.items()
            for split, got in splits.items()
        ]
        text += f"\n## {name}\n\n{markdown_table(head, rows)}\n"
        for family, splits in families.items():
            for split, got in splits.items():
                for reason, count in {**got.get("not built", {}), **got["skipped"]}.items():
                    text += f"\n- {family}, {split}: {count:,} pairs left out, since {reason}"
        text += "\n" if text[-1] != "\n" else ""
    return text


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
