"""Teachers and students whose truth is known, because their insides are set by hand.

Both teachers hold V1 and V2 in layer 1, where the alignment looks for them in every student, too, unless it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks.verdict_equality import (
    WIDTH,
    constant,
    counts,
    early_answer,
    equality_teacher,
    keeps,
    look_up,
    other_variables,
    overreacts,
    program,
    reacts_at_random,
    two_paths,
    untrained,
    wider,
)
from benchmarks.verdict_networks import Network, noisy, permuted, rotated
from benchmarks.verdict_sum import sum_at_random, sum_early, sum_of_others, sum_paths
from benchmarks.verdict_tasks import V1, V2


@dataclass(frozen=True)
class System:
    """A teacher and a student.

    Attributes:
        name: What the student is called.
        task: `equality` or `sum`.
        valid: Whether the student holds V1 and V2 where the alignment says, and computes from them as the teacher does.
        what: What the student is, in one line.
        student: Makes the student.
        teacher: Makes the teacher.
    """

    name: str
    task: str
    valid: bool
    what: str
    student: Callable[[], Network]
    teacher: Callable[[], Network]


def crossed(network: Network) -> Network:
    """Return a network whose variables' sites are exchanged."""
    return replace(network, sites={V1: network.sites[V2], V2: network.sites[V1]})


def at_layer(network: Network, layer: int) -> Network:
    """Return a network with the same neurons of another layer as sites."""
    return replace(network, sites={name: replace(site, layer=layer) for name, site in network.sites.items()})


_Row = tuple[str, bool, str, Callable[[], Network]]


def systems() -> list[System]:
    """Return all systems but those that are trained."""
    seeded = torch.Generator().manual_seed
    of_equality: list[_Row] = [
        ("copy", True, "the teacher itself", two_paths),
        ("permuted", True, "the neurons of every layer in another order", lambda: permuted(two_paths(), seeded(0))),
        (
            "rotated",
            True,
            "layer 1 in a rotated basis, in which the swap is made, too",
            lambda: rotated(two_paths(), 1, WIDTH, seeded(1)),
        ),
        ("wider", True, "twice as wide: neurons stand twice, beside others that nothing reads", wider),
        ("program", True, "the algorithm as a program, without the teacher's tint", program),
        (
            "noisy",
            True,
            "small errors in every layer",
            lambda: noisy(two_paths(), (0.02, 0.08, 0.08, 0.08, 0.5), seeded(5)),
        ),
        ("keeps", True, "hands V1 and V2 on through one more layer", keeps),
        ("by-product", False, "the aligned neurons hold V1 and V2, but nothing reads them", lambda: two_paths(0, 0)),
        ("one of two", False, "V1 is as in the teacher; V2 is read elsewhere", lambda: two_paths(1, 0)),
        ("leaky", False, "half of V1 and of V2 is read elsewhere", lambda: two_paths(0.5, 0.5)),
        ("crossed", False, "the neurons of V1 and of V2 are exchanged", lambda: crossed(two_paths())),
        ("one layer off", False, "the alignment has the next layer", lambda: at_layer(two_paths(), 2)),
        ("other variables", False, "right by others: (V1 == V2) == (a is even), and a is even", other_variables),
        ("counts", False, "right by counting equal pairs: at least one, and two", counts),
        ("early answer", False, "its answer stands where V1 should be", early_answer),
        ("look-up", False, "a table of all inputs; the aligned neurons are digits of an input's number", look_up),
        ("overreacts", False, "turns its answer round at any swap", overreacts),
        ("at random", False, "turns its answer round at half of all swaps", reacts_at_random),
        ("constant", False, "always gives the same answer", constant),
        ("untrained", False, "random weights", untrained),
    ]  # fmt: skip
    of_sum: list[_Row] = [
        ("copy", True, "the teacher itself", sum_paths),
        (
            "noisy",
            True,
            "small errors in every layer",
            lambda: noisy(sum_paths(), (0.02, 0.06, 0.06, 0.06, 0.5), seeded(6)),
        ),
        ("by-product", False, "the aligned neurons hold V1 and V2, but nothing reads them", lambda: sum_paths(0)),
        ("leaky", False, "half of V1 and of V2 is read elsewhere", lambda: sum_paths(0.5)),
        ("crossed", False, "the neurons of V1 and of V2 are exchanged", lambda: crossed(sum_paths())),
        ("other variables", False, "right by others: 2a + b, and c + d - a", sum_of_others),
        ("early answer", False, "its answer stands where V1 should be", sum_early),
        ("at random", False, "gives another answer at any swap", sum_at_random),
    ]  # fmt: skip
    both_keep = System("both keep", "equality", True, "the teacher and its copy hand V1 and V2 on", keeps, keeps)
    return [
        *(System(name, "equality", valid, what, made, equality_teacher) for name, valid, what, made in of_equality),
        both_keep,
        *(System(f"{name}, 8 answers", "sum", valid, what, made, sum_paths) for name, valid, what, made in of_sum),
    ]
