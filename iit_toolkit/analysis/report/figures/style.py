"""What all figures have in common: colours, style, and how they are written."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from iit_toolkit.analysis.report.csv_text import to_csv
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.files.printable import printable
from iit_toolkit.runs.folder import write_atomically

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, distinct to colour-blind readers; students differ in place, marker or label, too."""
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_HANDLE, _LETTER = 0.56, 0.072  # inches in a legend: of a mark with the room around it, of a letter
GREY, INK = "#767676", "#22272e"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "iit_toolkit",
}


_HOVER = "hover: "
_MOST_POINTS, _LONGEST_SIDE = 2**24, 2**15
_LONG_NUMBER = re.compile(r"scale\([^)]*\)|base64,[^\"]*|<title>[^<]*</title>|(\d+\.\d\d)\d+")
"""A number with more than two digits after its point (the group), but for factors of scale, images and texts."""


@dataclass(frozen=True)
class Drawing:
    """A figure drawn in `STYLE`: its name (of the files), a caption, a text for who cannot see it, its data."""

    name: str
    figure: Figure
    caption: str
    alt: str
    data: pd.DataFrame


@dataclass(frozen=True)
class Plot:
    """A figure that was written: as `Drawing`, with an SVG that can stand in a page beside others.

    The SVG goes into pages as it is, so it must have been drawn here and not read from a file.
    """

    name: str
    caption: str
    alt: str
    svg: str
    data: pd.DataFrame


def save(folder: Path, drawing: Drawing) -> Plot:
    """Write a figure as `folder/{name}.svg` and `.png`, and its data as `.csv`."""
    FigureCanvasAgg(drawing.figure)
    _without_formulas(drawing.figure)
    drawing.figure.draw_without_rendering()
    drawing.figure.set_layout_engine("none")  # it is laid out now, once for both kinds
    contents: dict[str, bytes] = {
        "csv": to_csv(drawing.data).encode(),
        "svg": _printed(FigureCanvasSVG(drawing.figure).print_svg, metadata={"Date": None}),
    }
    drawing.figure.dpi = picture_dpi(drawing.figure)
    contents["png"] = _printed(FigureCanvasAgg(drawing.figure).print_png)
    svg = _with_titles(contents["svg"].decode())
    contents["svg"] = svg.encode()
    for kind, content in contents.items():
        write_atomically(folder / f"{drawing.name}.{kind}", content)
    return Plot(drawing.name, drawing.caption, drawing.alt, inline(svg, drawing.name, drawing.alt), drawing.data)


def _printed(write: Callable[..., object], **options: Any) -> bytes:
    """Return what a canvas writes. `savefig` would draw all of it once more before, to measure it."""
    buffer = io.BytesIO()
    write(buffer, **options)
    return buffer.getvalue()


def picture_dpi(figure: Figure) -> float:
    """160, or fewer of a figure so large that its picture would have more than some ten million points."""
    width, height = figure.get_size_inches()
    return min(160.0, math.sqrt(_MOST_POINTS / (width * height)), _LONGEST_SIDE / max(width, height))


def hover(text: str) -> dict[str, Any]:
    """Keyword arguments for what is drawn, so that a pointer on it shows a text."""
    return {"gid": f"{_HOVER}{printable(text)}"}


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Explains the marks of all panels below them, in as few lines as the figure is wide enough for."""
    widths = [_HANDLE + _LETTER * len(str(one.get_label())) for one in handles]

    def width(columns: int) -> float:
        return sum(float(part.max()) for part in np.array_split(np.asarray(widths), columns))

    fitting = (count for count in range(len(widths), 1, -1) if width(count) <= figure.get_figwidth())
    figure.legend(handles=list(handles), loc="outside lower center", ncols=next(fitting, 1), fontsize=8.5)


def student_colour(students: Sequence[str], student: str) -> str:
    """Return the colour of a student, the same in every figure; grey is the untrained one."""
    trained = [name for name in students if name != UNTRAINED]
    return GREY if student == UNTRAINED else PALETTE[trained.index(student) % len(PALETTE)]


def _with_titles(svg: str) -> str:
    return re.sub(rf"<g id=([\"']){_HOVER}(.*?)\1>", r"<g><title>\2</title>", svg, flags=re.DOTALL)


def _without_formulas(figure: Figure) -> None:
    """Has names drawn as they are written, dollar signs included; the powers at a logarithmic axis are formulas."""
    formulas: set[Text] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for ticks, formatter in (
            (axis.get_major_ticks(), axis.get_major_formatter()),
            (axis.get_minor_ticks(), axis.get_minor_formatter()),
        ):
            if isinstance(formatter, LogFormatter):
                formulas |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text not in formulas:
            text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]


def inline(svg: str, name: str, alt: str) -> str:
    """Return an SVG as part of a page: without prologue, metadata and comments, with ids that no other figure has.

    Places are cut to a hundredth of a point, which makes it a third smaller.
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = _LONG_NUMBER.sub(lambda found: found[1] or found[0], svg)
    return re.sub(r"\n\s*", "\n", svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)).strip()
