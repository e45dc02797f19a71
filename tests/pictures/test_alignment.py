"""An alignment as two stacks, in text and on axes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import iit_toolkit as iit
from iit_toolkit.analysis.report.figures.aligned import aligned
from iit_toolkit.pictures.alignment import COLOURS, draw_places, drawn_variables
from tests.golden.trajectories import model

ALIGNMENT = iit.Alignment.pairs(
    middle=(3, 1), heads=(iit.Site.heads(1, [0, 2]), iit.Site.neurons(0, 4, 8)), also=([3, 2], 1)
)


def test_text_shows_every_block_and_what_is_aligned_there() -> None:
    assert ALIGNMENT.ascii(4, 2).splitlines() == [
        f"teacher{' ' * 25}student",
        "block 3  ■ middle, also",
        "block 2  ■ also",
        "block 1  ■ heads (heads 0, 2)   block 1  ■ middle, also",
        "block 0  □                      block 0  ■ heads (neurons 4 to 7)",
    ]


def test_a_module_by_its_path_stands_below_the_blocks() -> None:
    site = iit.Site(component="bert.embeddings.output")
    [one] = drawn_variables(iit.Alignment.pairs(low=(site, 0)).to_dict())
    assert (one.teacher[0].block, one.teacher[0].part, one.student[0].block) == (None, "bert.embeddings.output", 0)
    lines = iit.Alignment.pairs(low=(site, 0)).ascii(1, 1).splitlines()
    assert lines[-1].startswith("bert.embeddings.output ■ low")


def test_axes_hold_a_box_per_block_and_a_coloured_one_per_site() -> None:
    given = Figure().subplots()
    axes = ALIGNMENT.plot(model("masked_lm", 4, 16), 2, ax=given)
    assert axes is given
    boxes = [one for one in axes.patches if isinstance(one, FancyBboxPatch)]
    colours = [to_hex(one.get_edgecolor()) for one in boxes if one.get_linewidth() == 2]
    assert len(boxes) - len(colours) == 6
    assert [colours.count(colour.lower()) for colour in COLOURS[:3]] == [2, 2, 3]
    texts = [text.get_text() for text in axes.texts]
    assert {"teacher", "student", "middle", "also"} <= set(texts) and any(
        text.startswith("heads\nheads 0, 2") for text in texts
    )
    assert isinstance(ALIGNMENT.plot(4, 2), Axes)


def test_a_program_and_a_network_without_blocks_are_two_columns() -> None:
    alignment = iit.Alignment.pairs(
        left=("a = b", iit.Site.module("1.output", (0, 4))), both=("same", iit.Site.module("3.input"))
    )
    places = [(one.teacher[0].part, one.student[0].part) for one in drawn_variables(alignment.to_dict())]
    assert places == [("a = b of the program", "1.output, neurons 0 to 3"), ("same of the program", "3.input")]
    axes = draw_places(alignment.to_dict(), Figure().subplots())
    texts = {text.get_text() for text in axes.texts}
    assert texts == {"teacher", "student", "left", "both", *(place for pair in places for place in pair)}
    assert [to_hex(line.get_color()) for line in axes.lines] == [colour.lower() for colour in COLOURS[:2]]
    [drawing] = aligned(alignment.to_dict(), {}, "iit")
    assert drawing.data["part"].tolist() == [part for pair in places for part in pair]
