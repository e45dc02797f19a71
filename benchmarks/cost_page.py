"""The pages on what steps cost, from the measured numbers.

    python -m benchmarks.cost_page            writes docs/step_cost.md, and the parts of docs/cost.md
    python -m benchmarks.cost_page --check    fails if a page is not what the numbers give

In docs/cost.md a part that rests on numbers stands between `<!-- cost:NAME -->` and `<!-- /cost -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.allocators import DEFAULT, KEPT

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = """# Steps, measured

Made by `python -m benchmarks.step_cost`, which says what is measured; [cost.md](cost.md) says what it means. All
numbers are in `step_cost.json`.

"""
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
    text = f"## {name}\n\n{shape}; {result['rounds']} rounds.\n\n"
    text += "| step | CPU ms, median [min, max] | to naive | to textbook plain | to our plain | peak MB |\n"
    text += "|---|--:|--:|--:|--:|--:|\n"
    for variant, found in result["seconds"].items():
        times = f"{1e3 * found['median']:.0f} [{1e3 * found['min']:.0f}, {1e3 * found['max']:.0f}]"
        ratios = " | ".join(ratio(variant, to) for to in (naive, textbook, plain))
        peak = result["peak_mb"].get(variant)
        text += f"| {variant} | {times} | {ratios} | {'' if peak is None else peak['peak']} |\n"
    for variant, floor in result["floor"].items():
        if variant in seconds:
            text += f"\n{variant}: {floor['gigaflops']:.1f} GFLOP; its products alone take "
            ways = {"seconds": "each repeated by itself", "in_order_seconds": "in the order of the step"}
            text += "; ".join(
                f"{way}, {1e3 * floor[key]:.0f} ms ({floor['gigaflops'] / floor[key]:.0f} GFLOP/s), "
                f"{100 * floor[key] / seconds[variant]:.0f} % of the step"
                for key, way in ways.items()
                if key in floor
            )
            text += "\n"
    return text


def allocators_table(result: Mapping[str, Any]) -> str:
    """One shape's steps with malloc as it is and with malloc that keeps its memory, in Markdown."""
    found = result.get("allocators")
    if found is None:
        return "With malloc as it is only."
    text = "| step | malloc | CPU ms | to default | to naive | to textbook plain | to our plain | page faults |\n"
    text += "|---|---|--:|--:|--:|--:|--:|--:|\n"
    for variant in found[DEFAULT]:
        for allocator in (DEFAULT, KEPT):
            one = found[allocator][variant]
            ratios = [one["to_default"], *(one["ratios"].get(other) for other in (NAIVE, TEXTBOOK, PLAIN))]
            told = " | ".join("" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
            text += f"| {variant} | {allocator} | {1e3 * one['seconds']:,.0f} | {told} | {one['faults']:,.0f} |\n"
    return text


def page(results: _Results) -> str:
    """Return the page of all that was measured."""
    text = PAGE
    for shape, found in results.items():
        where = found["provenance"]
        versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
        processor = f"{where['hardware']['cpu']}, one thread"
        text += f"{table(shape, found)}\n{allocators_table(found)}\n"
        text += f"{processor}; {versions}; {found['created'][:10]}.\n\n"
    return text.rstrip() + "\n"


def with_parts(text: str, results: _Results) -> str:
    """Return the other page, with the parts between its marks written anew."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]](results)}\n{match[3]}", text)


def write_pages() -> None:
    """Write both pages."""
    for name, text in _pages():
        (DOCS / name).write_text(text, encoding="utf-8")


def _pages() -> Iterable[tuple[str, str]]:
    results = _read("step_cost.json")
    yield "step_cost.md", page(results)
    yield "cost.md", with_parts((DOCS / "cost.md").read_text(encoding="utf-8"), results)


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
        return "Only malloc as it is was measured, so nothing is claimed of malloc that keeps its memory."
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
    if textbook > 1:
        text += f"Of a textbook plain step it costs {spans['textbook']}: less in some settings, more in others."
    else:
        text += f"Of a textbook plain step it costs {spans['textbook']}."
    return text + "\n\n" + _worth(shapes)


def _worth(shapes: _Results) -> str:
    """How malloc that keeps its memory changes each step."""
    told: list[str] = []
    for found in shapes.values():
        kept, faults = found["allocators"][KEPT], found["allocators"][DEFAULT]
        changes = ", ".join(
            f"{100 * (kept[one]['to_default'] - 1):+.0f} % for a {name} step "
            f"({faults[one]['faults']:,.0f} page faults by default)"
            for one, name in _STEPS.items()
        )
        told.append(f"with {found['shape']['words']:,} words {changes}")
    return f"Malloc that keeps its memory changes the CPU time: {'; '.join(told)}."


_STEPS = {NAIVE: "naive", TEXTBOOK: "textbook plain", CAUSAL: "causal", PLAIN: "plain"}


def _cosine(results: _Results) -> str:
    seconds = _medians(results["small"])
    cosine, causal = (1e3 * seconds[one] for one in ("causal, middle + cos", CAUSAL))
    return (
        f"**Nothing for a term of weight 0.** `causal, middle + cos` takes {cosine:,.0f} ms to the {causal:,.0f} ms of "
        "`causal, middle`, as near as single steps spread, since the last hidden state is there anyway; without "
        "counterfactual terms the step is plain distillation, at its cost."
    )


def _hooks(results: _Results) -> str:
    told = []
    for name, where in (("small", "here"), ("small-vocabulary", "with 2,000 words"), ("base", "at width 768")):
        seconds = _medians(results[name])
        hand, ours = (1e3 * seconds[one] for one in ("causal, middle, hand-written hooks", CAUSAL))
        told.append(f"{hand:,.0f} ms against {ours:,.0f} ms {where}")
    stock, naive = (1e3 * _medians(results["small"])[one] for one in ("stock pyvene", NAIVE))
    return (
        "The same savings with two hand-written hooks in the place of pyvene (`causal, middle, hand-written hooks`): "
        f"{', '.join(told)}. [step_cost.md](step_cost.md) says how far single steps spread.\n\nStock pyvene, used as "
        f"its tutorial does, takes separate base, source and counterfactual runs: {stock:,.0f} ms; the naive step "
        f"takes {naive:,.0f} ms."
    )


def _options(results: _Results) -> str:
    seconds = _medians(results["small"])
    fewer = seconds["causal, middle, labelled tokens"] / seconds[CAUSAL]
    return (
        "None is a default. `base_tokens` and `counterfactual_tokens` (`labelled`, or `swapped`) take the distillation "
        f"losses at fewer tokens: another objective, {fewer:.2f} "
        "of the time of `causal, middle`. `cost_aware_draw` draws cheap variables more often, weighted so that the "
        "expected loss stays. `interchanges` takes more counterfactual runs per base run. `teacher_dtype` and "
        "`loss_dtype` compute in bfloat16."
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
        "* **80 % of the floor** (85 % at width 768). Run in the step's order, each on operands of its own, the matrix "
        f"products of the step take {100 * in_order[0]:.0f} % of its time; at width 768 (8 x 128 tokens) "
        f"{100 * in_order[1]:.0f} %. Each repeated by itself, which finds its operands in the cache, they take "
        f"{100 * alone[0]:.0f} % and {100 * alone[1]:.0f} %. The rest is what is no product: exponentials over the "
        "vocabulary, dropout masks, GELU, layer norms, biases, AdamW.",
        "* **0.30 of a naive step** with every allocator and vocabulary. With malloc as it is and 30,522 words the "
        f"step takes {of(small, NAIVE)} of one that selects rows as the paper's code does, and "
        f"{of(small, 'naive, rows selected by index')} of one that selects them by index; [above](#two-allocators) is "
        "the rest.",
        f"* **bfloat16 at 0.18 of the naive step**: {small['causal, middle, bfloat16'] / small[NAIVE]:.2f} here, for "
        "want of a processor that multiplies in bfloat16. No GPU was measured.",
        "",
        f"At width 768, with malloc as it is, a causal step costs {of(base, PLAIN)} times a plain one, "
        f"{of(base, NAIVE)} of the naive and {of(base, TEXTBOOK)} of a textbook plain one.",
        "",
        "With 151,936 words (a causal language model of width 256) and malloc as it is, a causal step costs "
        f"{of(large, PLAIN)} times a plain one, {of(large, NAIVE)} of the naive and {of(large, TEXTBOOK)} of a "
        "textbook plain one.",
    ]
    return "\n".join(lines)


def _rows(_: _Results) -> str:
    """Return what rows hold, by their number."""
    if not (DOCS / "rows_memory.json").exists():
        return "Not measured yet."
    text = "| rows | tokens | own memory, MB | with pages of files, MB |\n|--:|--:|--:|--:|\n"
    for one in _read("rows_memory.json")["sizes"]:
        text += f"| {one['rows']:,} | {one['tokens']:,} | {one['mb']['own']:,.0f} | {one['mb']['all']:,.0f} |\n"
    return text.rstrip()


def _medians(result: Mapping[str, Any]) -> dict[str, float]:
    return {variant: found["median"] for variant, found in result["seconds"].items()}


PARTS: dict[str, Callable[[_Results], str]] = {
    "steps": _steps, "both": _both, "cosine": _cosine, "hooks": _hooks, "options": _options, "missed": _missed,
    "rows": _rows,
}  # fmt: skip


def main() -> None:
    """Write the pages, or compare them with the numbers."""
    if sys.argv[1:] == ["--check"]:
        stale = [name for name, text in _pages() if text != (DOCS / name).read_text(encoding="utf-8")]
        if stale:
            sys.exit(f"not what the numbers give: {', '.join(stale)}")
        return
    write_pages()


if __name__ == "__main__":
    main()
