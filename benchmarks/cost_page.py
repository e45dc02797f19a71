"""The page on what steps cost, from the measured numbers.

    python -m benchmarks.cost_page            writes the parts of docs/step-cost.md anew
    python -m benchmarks.cost_page --check    fails if the page is not what the numbers give

A part of docs/step-cost.md that rests on numbers is between `<!-- cost:NAME -->` and `<!-- /cost -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.allocators import DEFAULT, KEPT

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "step-cost.md"
SIZES = ("teacher_layers", "student_layers", "width", "batch", "length", "words")
CAUSAL, NAIVE, TEXTBOOK, PLAIN = "causal, middle", "naive, three passes", "plain, textbook", "plain"
_PART = re.compile(r"(<!-- cost:(\w+) -->\n).*?(<!-- /cost -->)", re.DOTALL)
_Results = Mapping[str, Mapping[str, Any]]


def table(name: str, result: dict[str, Any]) -> str:
    """One shape's times, ratios and floors, in Markdown."""
    seconds = {variant: found["median"] for variant, found in result["seconds"].items()}
    naive, textbook, plain = (seconds.get(one) for one in ("naive, three passes", "plain, textbook", "plain"))

    def ratio(variant: str, to: float | None) -> str:
        return "" if to is None else f"{seconds[variant] / to:.3f}"

    shape = ", ".join(f"{key.replace('_', ' ')} {one}" for key, one in result["shape"].items() if key in SIZES)
    text = f"### {name}\n\n{shape}; {result['rounds']} rounds.\n\n"
    text += "| step | CPU ms, median [min, max] | to naive | to textbook plain | to our plain | peak MB |\n"
    text += "|---|--:|--:|--:|--:|--:|\n"
    for variant, found in result["seconds"].items():
        times = f"{1e3 * found['median']:.0f} [{1e3 * found['min']:.0f}, {1e3 * found['max']:.0f}]"
        ratios = " | ".join(ratio(variant, to) for to in (naive, textbook, plain))
        peak = result["peak_mb"].get(variant)
        text += f"| {variant} | {times} | {ratios} | {'' if peak is None else peak['peak']} |\n"
    for variant, floor in result["floor"].items():
        if variant in seconds:
            text += f"\n{variant}: {floor['gigaflops']:.1f} GFLOP. The matrix products alone take, "
            ways = {"seconds": "each repeated by itself", "in_order_seconds": "in the order of the step"}
            text += "; ".join(
                f"{way}, {1e3 * floor[key]:.0f} ms ({floor['gigaflops'] / floor[key]:.0f} GFLOP/s), "
                f"{100 * floor[key] / seconds[variant]:.0f}% of the step"
                for key, way in ways.items()
                if key in floor
            )
            text += "\n"
    return text


def allocators_table(result: Mapping[str, Any]) -> str:
    """One shape's steps with default malloc and with malloc that keeps its memory, in Markdown."""
    found = result.get("allocators")
    if found is None:
        return "Measured with default malloc only."
    text = "| step | malloc | CPU ms | to default | to naive | to textbook plain | to our plain | page faults |\n"
    text += "|---|---|--:|--:|--:|--:|--:|--:|\n"
    for variant in found[DEFAULT]:
        for allocator in (DEFAULT, KEPT):
            one = found[allocator][variant]
            ratios = [one["to_default"], *(one["ratios"].get(other) for other in (NAIVE, TEXTBOOK, PLAIN))]
            told = " | ".join("" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
            text += f"| {variant} | {allocator} | {1e3 * one['seconds']:,.0f} | {told} | {one['faults']:,.0f} |\n"
    return text


def _measured(results: _Results) -> str:
    """Return the tables of all that was measured."""
    text = ""
    for shape, found in results.items():
        where = found["provenance"]
        versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
        processor = f"{where['hardware']['cpu']}, one thread"
        text += f"{table(shape, found)}\n{allocators_table(found)}\n"
        text += f"{processor}; {versions}; {found['created'][:10]}.\n\n"
    return text.rstrip()


def with_parts(text: str, results: _Results) -> str:
    """Return the page with the parts between its marks written anew."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]](results)}\n{match[3]}", text)


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(fresh(), encoding="utf-8")


def fresh() -> str:
    """Return the page as the numbers give it."""
    return with_parts(PAGE.read_text(encoding="utf-8"), _read("step-cost.json"))


def _read(name: str) -> dict[str, Any]:
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def _steps(results: _Results) -> str:
    """Return the savings one by one, at 30,522 words."""
    named = {
        NAIVE: "naive: three passes of both models, losses on all logits, rows selected as in the paper's code",
        "naive, rows selected by index": "the same, rows selected by index",
        "sources from the base run": "sources from the base run",
        "+ restart after the swap": "and restart after the swap",
        CAUSAL: "and losses that hold no logits: **the step as it is**",
        TEXTBOOK: "plain distillation, textbook (all logits of both models)",
        PLAIN: "plain distillation here",
    }
    seconds = _medians(results["small"])
    text = "| step | CPU ms | of the naive step |\n|---|--:|--:|\n"
    for variant, told in named.items():
        cells = f"{1e3 * seconds[variant]:,.0f}", f"{seconds[variant] / seconds[NAIVE]:.2f}"
        text += f"| {told} | {' | '.join(f'**{cell}**' if variant == CAUSAL else cell for cell in cells)} |\n"
    return text.rstrip()


def _both(results: _Results) -> str:
    """Return what holds with either allocator, and what each is worth."""
    shapes = {name: found for name, found in results.items() if "allocators" in found}
    if not shapes:
        return "Only default malloc was measured. Nothing is claimed about malloc that keeps its memory."
    text = "| words | malloc | of the naive step | rows selected by index | of a textbook plain step | rows selected "
    text += "by index | of a plain step here |\n|--:|---|--:|--:|--:|--:|--:|\n"
    ranges: dict[str, list[float]] = {}
    for found in shapes.values():
        for allocator, steps in found["allocators"].items():
            by_index = {
                one: steps[CAUSAL]["seconds"] / steps[f"{one}, rows selected by index"]["seconds"]
                for one in ("naive", TEXTBOOK)
            }
            ratios = steps[CAUSAL]["ratios"]
            cells = [ratios[NAIVE], by_index["naive"], ratios[TEXTBOOK], by_index[TEXTBOOK], ratios[PLAIN]]
            told = " | ".join(f"{cell:.2f}" for cell in cells)
            text += f"| {found['shape']['words']:,} | {allocator} | {told} |\n"
            for name, some in (("naive", cells[:2]), ("textbook", cells[2:4]), ("plain", cells[4:])):
                ranges.setdefault(name, []).extend(some)
    spans = {name: f"{min(some):.2f} to {max(some):.2f}" for name, some in ranges.items()}
    textbook = max(ranges["textbook"])
    text += f"\nSo with either setting a causal step costs {spans['naive']} of a naive one and {spans['plain']} times "
    text += "a plain one with the same savings. "
    text += f"Compared with a textbook plain step it costs {spans['textbook']}"
    text += ": less in some settings, more in others." if textbook > 1 else "."
    return text + "\n\n" + _worth(shapes)


def _worth(shapes: _Results) -> str:
    """How malloc that keeps its memory changes each step."""
    text = "If malloc keeps its memory, the CPU time changes as follows. Page faults are those with default malloc.\n\n"
    text += "| words | step | CPU time | page faults |\n|--:|---|--:|--:|\n"
    for found in shapes.values():
        kept, faults = found["allocators"][KEPT], found["allocators"][DEFAULT]
        for one, name in _STEPS.items():
            change = f"{100 * (kept[one]['to_default'] - 1):+.0f}%"
            text += f"| {found['shape']['words']:,} | {name} | {change} | {faults[one]['faults']:,.0f} |\n"
    return text.rstrip()


_STEPS = {NAIVE: "naive", TEXTBOOK: "textbook plain", CAUSAL: "causal", PLAIN: "plain"}


def _cosine(results: _Results) -> str:
    seconds = _medians(results["small"])
    cosine, causal = (1e3 * seconds[one] for one in ("causal, middle + cos", CAUSAL))
    return (
        "**A term of weight 0 costs nothing.** Without counterfactual terms the step is plain distillation, at the "
        "cost of plain distillation. The cosine term costs next to nothing, because the last hidden state exists "
        f"anyway. `causal, middle + cos` takes {cosine:,.0f} ms, and `causal, middle` takes {causal:,.0f} ms. The "
        "difference is within the variation of single steps."
    )


def _hooks(results: _Results) -> str:
    told = []
    for name, where in (("small", "here"), ("small-vocabulary", "with 2,000 words"), ("base", "at width 768")):
        seconds = _medians(results[name])
        hand, ours = (1e3 * seconds[one] for one in ("causal, middle, hand-written hooks", CAUSAL))
        told.append(f"{hand:,.0f} ms against {ours:,.0f} ms {where}")
    stock, naive = (1e3 * _medians(results["small"])[one] for one in ("stock pyvene", NAIVE))
    return (
        "Two hand-written hooks can replace pyvene and keep the same savings (`causal, middle, hand-written hooks`). "
        f"They take {', '.join(told)}. [All measurements](#all-measurements) shows how much single steps vary.\n\nThe "
        f"pyvene tutorial makes separate base, source and counterfactual runs. Stock pyvene used this way takes "
        f"{stock:,.0f} ms. The naive step takes {naive:,.0f} ms."
    )


def _options(results: _Results) -> str:
    seconds = _medians(results["small"])
    fewer = seconds["causal, middle, labelled tokens"] / seconds[CAUSAL]
    return (
        "None is a default.\n\n"
        "* `base_tokens` and `counterfactual_tokens` (`labelled`, or `swapped`) take the distillation losses at fewer "
        f"tokens. This is another objective. It takes {fewer:.2f} of the time of `causal, middle`.\n"
        "* `cost_aware_draw` draws cheap variables more often. Weights keep the expected loss the same.\n"
        "* `interchanges` makes more counterfactual runs per base run.\n"
        "* `teacher_dtype` and `loss_dtype` compute in bfloat16."
    )


def _missed(results: _Results) -> str:
    small, base, large = (_medians(results[name]) for name in ("small", "base", "causal-lm"))
    share = {
        name: [results[name]["floor"][CAUSAL][way] / seconds[CAUSAL] for way in ("seconds", "in_order_seconds")]
        for name, seconds in (("small", small), ("base", base))
    }

    def of(seconds: Mapping[str, float], to: str) -> str:
        return f"{seconds[CAUSAL] / seconds[to]:.2f}"

    alone, in_order = zip(share["small"], share["base"], strict=True)
    lines = [
        "* **80% of the floor** (85% at width 768). The floor is the time of the matrix products alone. Run in the "
        f"step's order, each on its own operands, they take {100 * in_order[0]:.0f}% of the step's time. At width "
        f"768 (8 x 128 tokens) they take {100 * in_order[1]:.0f}%. A product that is repeated by itself finds its "
        f"operands in the cache. Measured so, the products take {100 * alone[0]:.0f}% and {100 * alone[1]:.0f}%. The "
        "remaining time goes to exponentials over the vocabulary, dropout masks, GELU, layer norms, biases and AdamW.",
        "* **0.30 of a naive step** with every allocator and vocabulary. With default malloc and 30,522 words the step "
        f"takes {of(small, NAIVE)} of a step that selects rows as the paper's code does. It takes "
        f"{of(small, 'naive, rows selected by index')} of a step that selects rows by index. [Two allocators]"
        "(#two-allocators) shows the other settings.",
        f"* **bfloat16 at 0.18 of the naive step**: {small['causal, middle, bfloat16'] / small[NAIVE]:.2f} here, "
        "because this processor does not multiply in bfloat16. No GPU was measured.",
        "",
        f"At width 768 with default malloc, a causal step costs {of(base, PLAIN)} times a plain one. It costs "
        f"{of(base, NAIVE)} of the naive step and {of(base, TEXTBOOK)} of a textbook plain step.",
        "",
        "With 151,936 words (a causal language model of width 256) and default malloc, a causal step costs "
        f"{of(large, PLAIN)} times a plain one. It costs {of(large, NAIVE)} of the naive step and "
        f"{of(large, TEXTBOOK)} of a textbook plain step.",
    ]
    return "\n".join(lines)


def _rows(_: _Results) -> str:
    """Return what rows hold, by their number."""
    if not (DOCS / "rows-memory.json").exists():
        return "Not measured yet."
    text = "| rows | tokens | own memory, MB | with pages of files, MB |\n|--:|--:|--:|--:|\n"
    for one in _read("rows-memory.json")["sizes"]:
        text += f"| {one['rows']:,} | {one['tokens']:,} | {one['mb']['own']:,.0f} | {one['mb']['all']:,.0f} |\n"
    return text.rstrip()


def _medians(result: Mapping[str, Any]) -> dict[str, float]:
    return {variant: found["median"] for variant, found in result["seconds"].items()}


PARTS: dict[str, Callable[[_Results], str]] = {
    "steps": _steps, "both": _both, "cosine": _cosine, "hooks": _hooks, "options": _options, "missed": _missed,
    "rows": _rows, "measured": _measured,
}  # fmt: skip


def main() -> None:
    """Write the page, or compare it with the numbers."""
    if sys.argv[1:] == ["--check"]:
        if fresh() != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"{PAGE.name} is not what the numbers give")
        return
    write_page()


if __name__ == "__main__":
    main()
