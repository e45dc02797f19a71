"""Teachers and students whose truth is known, because their insides are set by hand.

* `equality` is hierarchical equality of four objects of 16: V1 = (a == b), V2 = (c == d), and the answer is whether V1
  equals V2. Its teacher's layers hold: differences of bits (0), V1 and V2 (1), their difference (2), its size (3).
* `sum` has eight answers: V1 = a + b, V2 = c + d, and the answer is V1 + V2, all modulo 8. Its teacher's layers hold:
  pairs of objects (0), V1 and V2 as one of eight neurons (1), pairs of these (2), the answer (3).

Both teachers hold V1 and V2 in layer 1, where the alignment looks for them in every student, too, unless it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.verdict_networks import Dense, Network, Site, Stage, noisy, permuted, rotated, wired

OBJECTS, BITS, ANSWERS = 16, 4, 8
WIDTH, WIDE = 24, 144
LAYERS = 4
GAP = 3.0
"""Between the logits of the right answer and of others."""
TINT = 0.5
"""What the first bit of a adds to the logit of "same" in the teacher of `equality`: no answer hangs on it."""
_TINTED = 23
V1, V2 = "V1", "V2"
EQUALITY_SITES = {V1: Site(1, (0, 1)), V2: Site(1, (2, 3))}
SUM_SITES = {V1: Site(1, tuple(range(8))), V2: Site(1, tuple(range(8, 16)))}
_BESIDE = 8
"""The neurons of a second path stand so much further on, in `equality`."""
_READ = 18
"""The first neuron of four, in layer 0 of a program, that hold the objects: a wrong layer must not hold V1 or V2."""


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


def bits(objects: Tensor) -> Tensor:
    """Return the bits (B, 16) of four objects (B, 4)."""
    return (objects[:, :, None] >> torch.arange(BITS) & 1).flatten(1).float()


def one_hot(numbers: Tensor) -> Tensor:
    """Return numbers (B, N), modulo 8, as (B, 8 N), one of eight each."""
    return torch.nn.functional.one_hot(numbers.long() % ANSWERS, ANSWERS).flatten(1).float()


def equal(objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return V1, V2 and whether they differ, each (B,) of 0 and 1."""
    one, two = objects[:, 0] == objects[:, 1], objects[:, 2] == objects[:, 3]
    return one.float(), two.float(), (one != two).float()


def right_answer(task: str, objects: Tensor) -> Tensor:
    """Return the right answers (B,)."""
    return 1 - equal(objects)[2].long() if task == "equality" else objects.sum(1) % ANSWERS


def columns(width: int, held: Mapping[int, Tensor]) -> Tensor:
    """Return a state (B, W) that is zero but for some neurons (B,)."""
    state = torch.zeros(len(next(iter(held.values()))), width)
    for neuron, values in held.items():
        state[:, neuron] = values
    return state


def _copies(size: float, *neurons: tuple[int, int]) -> dict[tuple[int, int], float]:
    return dict.fromkeys(neurons, size)


# `equality`


def _differences(objects: Tensor) -> Tensor:
    a, b, c, d = bits(objects).split(BITS, 1)
    rest = torch.zeros(len(a), WIDTH - 4 * BITS)
    rest[:, -1] = a[:, 0]
    return torch.cat([(a - b).relu(), (b - a).relu(), (c - d).relu(), (d - c).relu(), rest], 1)


def _logits(aligned: float = 1.0, tint: float = TINT) -> Dense:
    """Return the last stage: neuron 0 says whether V1 and V2 differ."""
    weights = {(0, 0): GAP * aligned, (1, 0): -GAP * aligned, (1, _TINTED): tint / 2, (0, _TINTED): -tint / 2}
    return wired((2, WIDTH), weights, {0: -GAP / 2, 1: GAP / 2}, relu=False)


def two_paths(one: float = 1.0, two: float = 1.0) -> Network:
    """Return a network that holds V1 and V2 at the aligned neurons, and at others, and reads a mixture.

    Args:
        one: The share of V1 that it reads from the aligned neurons.
        two: The same of V2.
    """
    ab, cd = range(2 * BITS), range(2 * BITS, 4 * BITS)
    variables: dict[tuple[int, int], float] = {(_TINTED, _TINTED): 1.0}
    ones: dict[int, float] = {}
    for path in (0, _BESIDE):
        for neuron, group in ((0, ab), (1, ab), (2, cd), (3, cd)):
            variables |= _copies(-1.0, *((path + neuron, old) for old in group))
            ones[path + neuron] = 1.0
    parts: dict[tuple[int, int], float] = {(_TINTED, _TINTED): 1.0}
    for sign, made in ((1.0, (0, 1)), (-1.0, (2, 3))):
        for new in made:
            for path, share in ((0, (one, two)), (_BESIDE, (1 - one, 1 - two))):
                parts |= _copies(sign * share[0] / 2, (new, path), (new, path + 1))
                parts |= _copies(-sign * share[1] / 2, (new, path + 2), (new, path + 3))
    size = _copies(0.5, (0, 0), (0, 1), (0, 2), (0, 3)) | {(_TINTED, _TINTED): 1.0}
    square = (WIDTH, WIDTH)
    dense = wired(square, variables, ones), wired(square, parts), wired(square, size)
    return Network((_differences, *dense, _logits()), EQUALITY_SITES)


def equality_teacher() -> Network:
    """Return the teacher of `equality`."""
    return two_paths()


def keeps() -> Network:
    """Return a network that hands V1 and V2 on to the next layer, unchanged, before it uses them."""
    _, variables, parts, _, logits = two_paths().stages
    keep = wired((WIDTH, WIDTH), _copies(1.0, (0, 0), (1, 1), (2, 2), (3, 3), (_TINTED, _TINTED)))
    assert isinstance(logits, Dense)
    weight = logits.weight.clone()
    weight[:, :4] = weight[:, :1] / 2
    return Network((_differences, variables, keep, parts, replace(logits, weight=weight)), EQUALITY_SITES)


def wider() -> Network:
    """Return a network of twice the width: neurons stand twice, half as strong, beside others that nothing reads."""
    generator = torch.Generator().manual_seed(2)
    stages: list[Stage] = [lambda objects: torch.cat([_differences(objects)] * 2, 1)]
    for stage in two_paths().stages[1:]:
        assert isinstance(stage, Dense)
        weight, bias = stage.weight.tile(1, 2) / 2, stage.bias
        if stage.relu:
            weight, bias = weight.tile(2, 1), bias.tile(2)
            unread = [one + side for side in (0, WIDTH) for one in range(_BESIDE, _BESIDE + 8)]
            weight[unread], bias[unread] = torch.randn(len(unread), 2 * WIDTH, generator=generator) / 2, 0.5
        stages.append(Dense(weight, bias, stage.relu))
    for number in (2, 3, 4):  # what does nothing is not read
        stage = stages[number]
        assert isinstance(stage, Dense)
        stage.weight[:4, [one + side for side in (0, WIDTH) for one in range(_BESIDE, _BESIDE + 8)]] = 0.0
    sites = {V1: Site(1, (0, 1, WIDTH, WIDTH + 1)), V2: Site(1, (2, 3, WIDTH + 2, WIDTH + 3))}
    return Network(tuple(stages), sites)


def _program(
    second: Callable[[Tensor], Mapping[int, Tensor]],
    third: Callable[[Tensor], Tensor],
    sites: Mapping[str, Site] = EQUALITY_SITES,
) -> Network:
    """Return a network of plain functions.

    Args:
        second: Returns what the neurons of layer 1 hold, of the objects (B, 4).
        third: Returns whether V1 and V2 differ (B,), of the state of layer 1.
        sites: The variables.
    """
    stages: tuple[Stage, ...] = (
        lambda objects: columns(WIDTH, dict(zip(range(_READ, _READ + 4), objects.T, strict=True))),
        lambda state: columns(WIDTH, second(state[:, _READ : _READ + 4].long())),
        lambda state: columns(WIDTH, {0: third(state)}),
        lambda state: state,
        _logits(tint=0.0),
    )
    return Network(stages, sites)


def _differ(one: Tensor, two: Tensor) -> Tensor:
    return (one != two).float()


def program() -> Network:
    """Return the algorithm itself."""
    return _program(
        lambda objects: dict(zip((0, 2), equal(objects)[:2], strict=True)),
        lambda state: _differ(state[:, 0], state[:, 2]),
    )


def other_variables() -> Network:
    """Return a network with two other variables: whether a is even, and whether that is the answer."""

    def second(objects: Tensor) -> dict[int, Tensor]:
        even = (objects[:, 0] + 1) % 2
        return {0: _differ(even, equal(objects)[2]), 2: even.float()}

    return _program(second, lambda state: _differ(state[:, 0], state[:, 2]))


def counts() -> Network:
    """Return a network that counts equal pairs: at least one, and two."""

    def second(objects: Tensor) -> dict[int, Tensor]:
        one, two, _ = equal(objects)
        return {0: torch.maximum(one, two), 2: one * two}

    return _program(second, lambda state: (state[:, 0] - state[:, 2]).clamp(0, 1))


def early_answer() -> Network:
    """Return a network that has its answer where V1 should be."""
    return _program(lambda objects: {0: equal(objects)[2]}, lambda state: state[:, 0])


def _number(objects: Tensor) -> Tensor:
    """Return the numbers (B,) of rows of objects, in no order that means anything."""
    order = torch.randperm(OBJECTS**4, generator=torch.Generator().manual_seed(3))
    return order[(objects * OBJECTS ** torch.arange(4)).sum(1)]


def look_up() -> Network:
    """Return a network that numbers all inputs and has a table of answers; V1 and V2 are digits of the number."""
    every = torch.cartesian_prod(*[torch.arange(OBJECTS)] * 4)
    answers = torch.zeros(OBJECTS**4)
    answers[_number(every)] = equal(every)[2]
    powers = 2 ** torch.arange(16)

    def second(objects: Tensor) -> dict[int, Tensor]:
        return {digit: (_number(objects) >> digit & 1).float() for digit in range(16)}

    return _program(second, lambda state: answers[(state[:, :16].long() * powers).sum(1)])


def _reacting(flips: Callable[[Tensor, Tensor], Tensor]) -> Network:
    """Return a network that holds the row's number at the sites of V1 and V2 and at neuron 8, and the answer at 9.

    Args:
        flips: Says (B,) whether an answer is turned round, of the number at a site and the row's own.
    """

    def second(objects: Tensor) -> dict[int, Tensor]:
        number = _number(objects).float()
        return {0: number, 2: number, 8: number, 9: equal(objects)[2]}

    def third(state: Tensor) -> Tensor:
        turned = flips(state[:, 0], state[:, 8]) ^ flips(state[:, 2], state[:, 8])
        return _differ(state[:, 9] == 1, turned)

    return _program(second, third)


def overreacts() -> Network:
    """Return a network that turns its answer round at any swap."""
    return _reacting(lambda one, own: one != own)


def reacts_at_random() -> Network:
    """Return a network that turns its answer round at half of all swaps, whatever they bring."""
    return _reacting(lambda one, own: (one != own) & _coin(one, own))


def _coin(one: Tensor, own: Tensor) -> Tensor:
    return (one.long() * 7919 + own.long() * 104729) // 64 % 2 == 1


def constant() -> Network:
    """Return a network that always gives the same answer."""
    stages = two_paths().stages
    return Network((*stages[:-1], _logits(aligned=0.0, tint=0.0)), EQUALITY_SITES)


def untrained() -> Network:
    """Return a network of random weights."""
    generator = torch.Generator().manual_seed(4)
    stages: list[Stage] = [_differences]
    for new in (WIDTH, WIDTH, WIDTH, 2):
        weight = torch.randn(new, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
        stages.append(Dense(weight, torch.zeros(new), relu=new == WIDTH))
    return Network(tuple(stages), EQUALITY_SITES)


def crossed(network: Network) -> Network:
    """Return a network whose variables' sites are exchanged."""
    return replace(network, sites={V1: network.sites[V2], V2: network.sites[V1]})


def at_layer(network: Network, layer: int) -> Network:
    """Return a network with the same neurons of another layer as sites."""
    return replace(network, sites={name: replace(site, layer=layer) for name, site in network.sites.items()})


# `sum`


def _pairs_of(width: int, one: int, two: int, start: int, shares: Iterable[tuple[int, float]] = ((0, 1.0),)) -> Dense:
    """Return a stage whose neurons from `start` on are the 64 pairs of two groups of eight neurons.

    Args:
        width: Neurons of the old layer.
        one: The first neuron of the first group.
        two: The first neuron of the second group.
        start: The first new neuron.
        shares: Copies of the groups: how much further on, and what share is read there.
    """
    weights: dict[tuple[int, int], float] = {}
    for pair in range(64):
        for further, share in shares:
            weights[start + pair, one + further + pair // 8] = share
            weights[start + pair, two + further + pair % 8] = share
    return wired((WIDE, width), weights, dict.fromkeys(range(start, start + 64), -1.0))


def _summed(groups: Mapping[int, int]) -> Dense:
    """Return a stage that adds, modulo 8, the two numbers of 64 pairs.

    Args:
        groups: The first of eight new neurons, and the first of the pairs it is made of.
    """
    weights = {(new + (pair // 8 + pair % 8) % 8, old + pair): 1.0 for new, old in groups.items() for pair in range(64)}
    return wired((WIDE, WIDE), weights)


_SUM_LOGITS = wired((ANSWERS, WIDE), {(answer, answer): GAP + 1 for answer in range(ANSWERS)}, relu=False)


def sum_paths(share: float = 1.0) -> Network:
    """Return a network that holds V1 and V2 at the aligned neurons, and at others, and reads a mixture.

    Args:
        share: What it reads from the aligned neurons.
    """
    first, second = _pairs_of(32, 0, 8, 0), _pairs_of(32, 16, 24, 64)
    pairs = Dense(first.weight + second.weight, first.bias + second.bias)
    stages: tuple[Stage, ...] = (
        lambda objects: pairs(one_hot(objects)),
        _summed({0: 0, 8: 64, 16: 0, 24: 64}),
        _pairs_of(WIDE, 0, 8, 0, ((0, share), (16, 1 - share))),
        _summed({0: 0}),
        _SUM_LOGITS,
    )
    return Network(stages, SUM_SITES)


def _sum_program(second: Callable[[Tensor], Tensor], third: Callable[[Tensor], Tensor]) -> Network:
    """Return a network of plain functions.

    Args:
        second: Returns what layer 1 holds first, of the objects (B, 4).
        third: Returns the answer (B,), of the state of layer 1.
    """

    def padded(state: Tensor) -> Tensor:
        return torch.nn.functional.pad(state, (0, WIDE - state.shape[1]))

    stages: tuple[Stage, ...] = (
        lambda objects: columns(WIDE, dict(zip(range(_READ, _READ + 4), objects.T, strict=True))),
        lambda state: padded(second(state[:, _READ : _READ + 4].long())),
        lambda state: padded(one_hot(third(state)[:, None])),
        lambda state: state,
        _SUM_LOGITS,
    )
    return Network(stages, SUM_SITES)


def _total(state: Tensor) -> Tensor:
    return state[:, :8].argmax(1) + state[:, 8:16].argmax(1)


def sum_of_others() -> Network:
    """Return a network that adds two other numbers, 2a + b and c + d - a."""
    mixture = torch.tensor([[2, 1, 0, 0], [-1, 0, 1, 1]])
    return _sum_program(lambda objects: one_hot(objects @ mixture.T), _total)


def sum_early() -> Network:
    """Return a network that has its answer where V1 should be."""
    return _sum_program(
        lambda objects: one_hot(torch.stack([objects.sum(1), torch.zeros(len(objects))], 1)),
        _total,
    )


def sum_at_random() -> Network:
    """Return a network that gives another answer at any swap, whatever it brings."""

    def second(objects: Tensor) -> Tensor:
        number = _number(objects).float()[:, None]
        apart = torch.zeros(len(objects), 7)
        return torch.cat([number, apart, number, apart, number, objects.sum(1)[:, None]], 1)

    def third(state: Tensor) -> Tensor:
        moved = [
            torch.where(state[:, site] != state[:, 16], 1 + (state[:, site] + 3 * state[:, 16]).long() % 7, 0)
            for site in (0, 8)
        ]
        return state[:, 17].long() + moved[0] + moved[1]

    return _sum_program(second, third)


_Row = tuple[str, bool, str, Callable[[], Network]]


def systems() -> list[System]:
    """Return all systems but those that are trained."""
    seeded = torch.Generator().manual_seed
    equality: list[_Row] = [
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
    sums: list[_Row] = [
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
        *(System(name, "equality", valid, what, student, equality_teacher) for name, valid, what, student in equality),
        both_keep,
        *(System(f"{name}, 8 answers", "sum", valid, what, student, sum_paths) for name, valid, what, student in sums),
    ]
