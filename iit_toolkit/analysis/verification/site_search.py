"""Search for the variables of a teacher in a network: which outputs of modules act like a variable, if swapped?

Every variable of the alignment, as its teacher has it, is held against every candidate site of the student, on the same
cases as in `verify`. A cell compares the teacher with the variable swapped and the student with the site swapped. So
V variables and S sites need V + S counterfactual runs of a batch (`search.answer_sides`).

Cells are exploratory: the best of many is high by chance too. What is chosen here must be confirmed on other rows,
which is what `verify` and `judge` are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.alignment.resolve import get_module, resolve_site
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE
from iit_toolkit.analysis.statistics.site_matrix import SearchedSite, SiteCell, SiteMatrix, site_matrix
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.search import answer_sides, layer_matrix
from iit_toolkit.data.batch import Numbered
from iit_toolkit.data.tensor_rows import TensorRows, tensor_batch
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.network import NetworkSide, in_places
from iit_toolkit.interchange.sides import Teacher, side_of

PARTS = (1, 2, 4)
"""Into so many equal ranges of neurons the output of a module is parted: the whole, halves, quarters."""
_TRIED_ROWS = (2, 3)
"""The student is run on so many rows, to see which tensors have rows in front."""
_TIED = 0.01
"""Sites whose figures differ by less count as equally good."""


@torch.no_grad()
def candidate_sites(
    student: nn.Module, rows: TensorRows, parts: Iterable[int] = PARTS, modules: Sequence[str] = ()
) -> tuple[SearchedSite, ...]:
    """Return the sites of a network that can be swapped: outputs of its modules, whole and in equal ranges of neurons.

    A module qualifies if it runs once and its output is one tensor (rows, ...) of floating point. The neurons of
    feature maps (rows, channels, height, width) are channels; any other output is flattened to one vector per row. Left
    out are: the network as a whole; modules that pass on the output of an earlier one as it is; and modules that run
    before any weight, since their outputs are the inputs.

    Args:
        student: The network. It is run on five rows.
        rows: Rows that it can be run on.
        parts: Into how many equal ranges of neurons an output is parted. If the width is no multiple, ranges differ by
            one neuron. An output with fewer neurons than parts is not parted so.
        modules: The paths of the modules, if not all are to be tried; they may run before any weight.

    Returns:
        The sites, in the order in which the modules run; of each module, those of fewer parts first.

    Raises:
        UserError: If a module is unknown or does not qualify, no module qualifies, parts are no numbers of 1 or more,
            there are fewer than three rows, or the network cannot be run.
    """
    counts = sorted(set(parts))
    if not counts or counts[0] < 1:
        raise UserError(
            f"parts: {', '.join(map(str, counts)) or 'none'}: give numbers of 1 or more, such as 1, 2 and 4"
        )
    if len(rows) < max(_TRIED_ROWS):
        raise UserError(f"a search needs rows to try the student on, but there are {len(rows)}")
    wanted = [path.removesuffix(".output") for path in modules]
    for path in wanted:
        get_module(student, f"{path}.output")
    widths = _widths(student, rows, any_input=bool(wanted))
    for path in wanted:
        if path not in widths:
            raise UserError(
                f"module {path}: it does not run exactly once with one new tensor (rows, ...) of floating point as its "
                f"output; the modules that do are: {', '.join(widths) or 'none'}"
            )
    chosen = {path: width for path, width in widths.items() if not wanted or path in wanted}
    if not chosen:
        raise UserError(
            f"no candidate sites: no module of {type(student).__name__} runs exactly once with one tensor (rows, ...) "
            "of floating point as its output; give a network that is made of modules"
        )
    return tuple(site for path, width in chosen.items() for site in _parted(f"{path}.output", width, counts))


def _parted(component: str, width: int, counts: Sequence[int]) -> Iterator[SearchedSite]:
    for count in counts:
        if count == 1:
            yield SearchedSite(component, None, width)
        elif count <= width:
            edges = [number * width // count for number in range(count + 1)]
            for low, high in zip(edges, edges[1:], strict=False):
                yield SearchedSite(component, (low, high), width)


def _widths(student: nn.Module, rows: TensorRows, *, any_input: bool) -> dict[str, int]:
    """Return how many neurons the output of every module has that qualifies, by path, in the order of their runs."""
    tried = [_tried(student, rows, count, any_input=any_input) for count in _TRIED_ROWS]
    return {path: width for path, width in tried[0].items() if all(one.get(path) == width for one in tried)}


def _tried(student: nn.Module, rows: TensorRows, count: int, *, any_input: bool) -> dict[str, int]:
    runs: dict[str, int] = {}
    outputs: dict[str, tuple[Tensor, Tensor]] = {}  # what may be changed in place later, and a copy
    weighted = any_input

    def looking_at(path: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, _args, output: look(path, module, output)

    def look(path: str, module: nn.Module, output: object) -> None:
        nonlocal weighted
        weighted = weighted or any(True for _ in module.parameters())
        runs[path] = runs.get(path, 0) + 1
        if not (weighted and isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1):
            return
        passed_on = any(one is output and torch.equal(before, output) for one, before in outputs.values())
        if not passed_on and len(output) == count and output.numel():
            outputs[path] = output, output.clone()

    handles = [one.register_forward_hook(looking_at(path)) for path, one in student.named_modules() if path]
    try:
        side = NetworkSide(student, {})
        side.eval()
        batch = rows.batch(torch.arange(count))
        side.base_run({name: value.to(side.device) for name, value in side.reads(batch).items()})
    finally:
        for handle in handles:
            handle.remove()
    return {path: in_places(output).shape[-1] for path, (output, _) in outputs.items() if runs[path] == 1}


@torch.no_grad()
def search_sites(
    teacher: Teacher,
    student: nn.Module,
    alignment: Alignment,
    sites: Sequence[SearchedSite],
    rows: TensorRows,
    *,
    pairs: int = 512,
    batch_size: int = 256,
    seed: int = 0,
    minimum_bases: int = MINIMUM_CLUSTERS,
    measure: str = DEFAULT_MEASURE,
) -> SiteMatrix:
    """Compare every variable of an alignment, as the teacher has it, with every site of the student.

    Args:
        teacher: The program or network that teaches.
        student: The network.
        alignment: Says what the variables are in the teacher, and where sources come from. Its sites of the student are
            not looked at.
        sites: The student's sites that are tried, such as `candidate_sites` returns.
        rows: At least two.
        pairs: Pairs of base and source; at most the number of rows is used.
        batch_size: Base rows per batch. A run holds the outputs of all tried modules for so many rows.
        seed: Of the sources.
        minimum_bases: A cell's figures are undefined if its counted cases come from fewer base examples.
        measure: What the cells hold, one of `measures.JUDGED`.

    Raises:
        UserError: If there are fewer than two rows, the alignment does not fit the teacher, a site does not fit the
            student, or no verdict rests on the measure.
    """
    side = NetworkSide(student, {str(site): (resolve_site(site_of(site), student),) for site in sites})
    other = side_of(teacher, alignment, "teacher", side.device)
    for one in (side, other):
        one.eval()
    batches = draw_pairs(
        Numbered(rows),
        tensor_batch,
        alignment.positions,
        alignment.sources,
        task="sequence_classification",
        pairs=pairs,
        batch_size=batch_size,
        seed=seed,
        what="searching",
    )
    answers = answer_sides(other, side, batches)
    names = [variable.name for variable in alignment.variables]
    return site_matrix(layer_matrix(answers, minimum_bases, measure), names, sites)


def choose_sites(matrix: SiteMatrix) -> dict[str, SearchedSite]:
    """Choose a site for every variable, each by itself: the one that is furthest above its floor.

    Figures that differ by less than 0.01 count as equal. Of equal sites, the module that runs first is chosen, then the
    site of the fewest neurons, then that of the lowest. Never chosen are cells whose figures are undefined, and sites
    whose swap moves the student in too few base examples.

    Returns:
        The site of every variable, by its name.

    Raises:
        UserError: If a variable has no site that can be chosen.
    """
    order = {component: number for number, component in enumerate(dict.fromkeys(one.component for one in matrix.sites))}
    chosen: dict[str, SearchedSite] = {}
    for number, name in enumerate(matrix.variables):
        cells = matrix.of_variable(number)
        worths = {cell.site: worth for cell in cells if (worth := matrix.worth(cell)) is not None}
        if not worths:
            raise UserError(_no_site(matrix, name, cells))
        best = max(worths.values())
        tied = [matrix.sites[site] for site, worth in worths.items() if best - worth < _TIED]
        chosen[name] = min(tied, key=lambda one: (order[one.component], one.size, one.neurons or (0, one.width)))
    return chosen


def _no_site(matrix: SiteMatrix, name: str, cells: Sequence[SiteCell]) -> str:
    counted, moved = max(cell.figures.bases for cell in cells), max(cell.moved for cell in cells)
    return (
        f"variable {name}: no site can be chosen: {matrix.measured.units} of the teacher come from {counted} examples, "
        f"and swaps move the student in at most {moved}; {matrix.minimum_bases} are needed, so raise "
        "verification.pairs, or leave the variable out of verification.alignment"
    )


def searched_alignment(alignment: Alignment, chosen: Mapping[str, SearchedSite], name: str) -> Alignment:
    """Return the alignment whose variables are those of another in the teacher, and the chosen sites in the student.

    Args:
        alignment: What was searched by.
        chosen: The site of every variable.
        name: What the alignment is called.
    """
    variables = tuple(one.model_copy(update={"student": (site_of(chosen[one.name]),)}) for one in alignment.variables)
    return alignment.model_copy(update={"name": name, "variables": variables})


def site_of(site: SearchedSite) -> Site:
    """Return a searched site as alignments have it."""
    return Site.module(site.component, site.neurons)
