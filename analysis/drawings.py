"""The drawings and badges of the documents.

    python -m analysis.drawings

They are SVG files without anything from elsewhere, on a panel that is dark if the reader's system is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
_STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 14px; fill: #1f2328 }
.small { font-size: 12px } .bold { font-weight: 600 } .quiet { fill: #59636e } .middle { text-anchor: middle }
.panel { fill: #ffffff; stroke: #d1d9e0 } .box { fill: #f6f8fa; stroke: #8c959f } .line { stroke: #59636e; fill: none }
.base { fill: #dde3ea } .source { fill: #d9600a } .moved { fill: #f7c9a3 }
.left { fill: #0072b2 } .right { fill: #b54d00 } .tie { stroke-width: 2; fill: none }
.tie.left { stroke: #0072b2 } .tie.right { stroke: #b54d00 } .dashed { stroke-dasharray: 5 4 } .on { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 } .panel { fill: #10151c; stroke: #3d444d }
  .box { fill: #1c2330; stroke: #6e7781 } .line { stroke: #9198a1 }
  .base { fill: #3b4453 } .source { fill: #f0883e } .moved { fill: #7d4a22 }
  .left { fill: #4aa8e0 } .right { fill: #f0883e } .tie.left { stroke: #4aa8e0 } .tie.right { stroke: #f0883e }
  .tie { fill: none } .on { fill: #10151c }
}
"""
_CELL, _GAP, _ROW = 20, 5, 34
_TOKENS = 7
_SPAN = range(2, 5)
"""The swapped tokens."""


def interchange() -> str:
    """Draw one interchange intervention: both models, the aligned blocks, the swapped span."""
    width = _TOKENS * (_CELL + _GAP) - _GAP
    left, right, top, bottom = 110, 515, 88, 88 + 5 * _ROW
    heights = {"teacher": [bottom - block * _ROW for block in range(6)], "student": [bottom, (top + bottom) // 2, top]}
    aligned = {"teacher": 3, "student": 1}
    parts: list[str] = []
    for side, x in (("teacher", left), ("student", right)):
        parts.append(_text(x + width / 2, 34, side, "bold middle"))
        parts.append(_text(x + width / 2, 66, "answer", "middle"))
        for block, y in enumerate(heights[side]):
            parts += _block(x, y, block, aligned[side])
            parts.append(_text(x - 14, y + 15, f"block {block}", "small quiet", end=True))
    start, end = (heights[side][aligned[side]] + _CELL / 2 for side in ("teacher", "student"))
    gap, middle = left + width + 8, (left + width + right) / 2 - 24
    parts.append(f'<path class="tie right" d="M{gap} {start} L{right - 74} {end}"/>')
    parts.append(f'<rect class="panel" x="{middle - 58}" y="{(start + end) / 2 - 13}" width="116" height="26" rx="5"/>')
    parts.append(_text(middle, (start + end) / 2 + 5, "variable “middle”", "small middle"))
    parts.append(f'<path class="line" d="M{left + width / 2 + 34} 61 H{right + width / 2 - 34}"/>')
    parts.append(f'<rect class="panel" x="{middle - 50}" y="48" width="100" height="26" rx="5"/>')
    parts.append(_text(middle, 66, "the same?", "bold middle"))
    kinds = ("base", "computed from the base"), ("source", "taken from the source"), ("moved", "recomputed")
    for place, (kind, meaning) in zip((110, 330, 545), kinds, strict=True):
        parts.append(f'<rect class="{kind}" x="{place}" y="{bottom + 48}" width="16" height="16" rx="3"/>')
        parts.append(_text(place + 24, bottom + 61, meaning, "small"))
    title = "A span of activations of one block is replaced in teacher and student. Do both give the same answer?"
    return _drawing(760, bottom + 84, title, parts)


def _block(x: float, y: float, block: int, aligned: int) -> Iterator[str]:
    for token in range(_TOKENS):
        kind = "source" if block == aligned and token in _SPAN else "moved" if block > aligned else "base"
        place = x + token * (_CELL + _GAP)
        yield f'<rect class="{kind}" x="{place}" y="{y}" width="{_CELL}" height="{_CELL}" rx="4"/>'


def equality() -> str:
    """Draw the equality program and a network, with the neurons that hold the program's variables."""
    parts = [_text(150, 32, "program", "bold middle"), _text(545, 32, "network", "bold middle")]
    inputs, middle = {"a": 45, "b": 115, "c": 185, "d": 255}, {"left": (80, "a = b"), "right": (220, "c = d")}
    for variable, (x, _) in middle.items():
        parts += [_line(x, 176, inputs[name], 262) for name in ("ab" if variable == "left" else "cd")]
        parts.append(_line(150, 86, x, 144))
    for name, x in inputs.items():
        parts += [f'<circle class="box" cx="{x}" cy="262" r="17"/>', _text(x, 267, name, "middle")]
    for variable, (x, meaning) in middle.items():
        parts.append(f'<rect class="{variable}" x="{x - 44}" y="140" width="88" height="38" rx="8"/>')
        parts.append(_text(x, 156, variable, "small bold middle on"))
        parts.append(_text(x, 171, meaning, "small middle on"))
    parts.append('<rect class="box" x="80" y="54" width="140" height="36" rx="8"/>')
    parts.append(_text(150, 77, "left = right ?", "middle"))
    rows = {262: [*"abcd"], 159: ["a−b", "b−a", "c−d", "d−c"], 76: ["no", "yes"]}
    for y, names in rows.items():
        for place, name in enumerate(names):
            x = 545 + 64 * (place - (len(names) - 1) / 2)
            kind = ("left" if place < 2 else "right") if y == 159 else "box"
            parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y}" r="19"/>')
            parts.append(_text(x, y + 4, name, "small middle on" if y == 159 else "small middle"))
    parts += [_line(545, 236, 545, 190, arrow=True), _line(545, 134, 545, 104, arrow=True)]
    notes = (("answer", 80), ("hidden", 163), ("inputs", 266))
    parts += [_text(735, y, name, "small quiet", end=True) for name, y in notes]
    parts.append('<path class="tie left dashed" d="M124 152 C 220 108, 330 108, 434 148"/>')
    parts.append('<path class="tie right dashed" d="M264 168 C 330 232, 500 232, 572 186"/>')
    title = "The program's variables left and right are aligned with two hidden neurons each."
    return _drawing(760, 300, title, parts)


def badge(name: str, value: str) -> str:
    """Draw a badge: a name and a value, side by side."""
    left, right = (13 + 6.6 * len(text) for text in (name, value))
    width = round(left + right)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" '
        f'aria-label="{escape(name)}: {escape(value)}"><rect width="{width}" height="20" rx="3" fill="#3d4650"/>'
        f'<path d="M{left:.0f} 0h{width - left - 3:.0f}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{width - left - 3:.0f}z" '
        'fill="#0a5c9e"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:.0f}" y="14">{escape(name)}</text>'
        f'<text x="{left + right / 2:.0f}" y="14">{escape(value)}</text></g></svg>\n'
    )


def badges() -> dict[str, str]:
    """Return what the badges say, as `pyproject.toml` has it."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    def said(pattern: str) -> str:
        found = re.search(pattern, project, re.MULTILINE)
        assert found is not None
        return found[1]

    return {
        "licence": said(r'^license = "(.*)"'),
        "python": said(r'^requires-python = ">=(.*)"') + "+",
        "pyvene": said(r'"pyvene==(.*)"'),
        "network": "not needed",
    }


def drawings() -> dict[str, str]:
    """Return the content of every file, by its name."""
    made = {"interchange.svg": interchange(), "equality.svg": equality()}
    return made | {f"badge-{name}.svg": badge(name, value) for name, value in badges().items()}


def _text(x: float, y: float, text: str, kind: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{escape(text, quote=False)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, *, arrow: bool = False) -> str:
    head = f" M{to_x - 4} {to_y + 7} L{to_x} {to_y} L{to_x + 4} {to_y + 7}" if arrow else ""
    return f'<path class="line" d="M{x} {y} L{to_x} {to_y}{head}"/>'


def _drawing(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    panel = f'<rect class="panel" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>'
    return "\n".join([head, f"<title>{title}</title><style>{_STYLE}</style>", panel, *parts, "</svg>", ""])


def main() -> None:
    """Write every file."""
    for name, content in drawings().items():
        (IMAGES / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
