"""A teacher of `equality` and students whose truth is known.

The teacher's layers hold: differences of bits (0), V1 and V2 (1), their difference (2), its size (3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.verdict_networks import Dense, Network, Site, Stage, wired
from benchmarks.verdict_tasks import BITS, GAP, OBJECTS, READ, V1, V2, bits, columns, equal, numbered

WIDTH = 24
TINT = 0.5
"""What the first bit of a adds to the logit of "same" in the teacher: no answer hangs on it."""
_TINTED = 23
SITES = {V1: Site(1, (0, 1)), V2: Site(1, (2, 3))}
_BESIDE = 8
"""The neurons of a second path stand so much further on."""


def _copies(size: float, *neurons: tuple[int, int]) -> dict[tuple[int, int], float]:
    return dict.fromkeys(neurons, size)


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
    return Network((_differences, *dense, _logits()), SITES)


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
    return Network((_differences, variables, keep, parts, replace(logits, weight=weight)), SITES)


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
    sites: Mapping[str, Site] = SITES,
) -> Network:
    """Return a network of plain functions.

    Args:
        second: Returns what the neurons of layer 1 hold, of the objects (B, 4).
        third: Returns whether V1 and V2 differ (B,), of the state of layer 1.
        sites: The variables.
    """
    stages: tuple[Stage, ...] = (
        lambda objects: columns(WIDTH, dict(zip(range(READ, READ + 4), objects.T, strict=True))),
        lambda state: columns(WIDTH, second(state[:, READ : READ + 4].long())),
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


def look_up() -> Network:
    """Return a network that numbers all inputs and has a table of answers; V1 and V2 are digits of the number."""
    every = torch.cartesian_prod(*[torch.arange(OBJECTS)] * 4)
    answers = torch.zeros(OBJECTS**4)
    answers[numbered(every)] = equal(every)[2]
    powers = 2 ** torch.arange(16)

    def second(objects: Tensor) -> dict[int, Tensor]:
        return {digit: (numbered(objects) >> digit & 1).float() for digit in range(16)}

    return _program(second, lambda state: answers[(state[:, :16].long() * powers).sum(1)])


def _reacting(flips: Callable[[Tensor, Tensor], Tensor]) -> Network:
    """Return a network that holds the row's number at the sites of V1 and V2 and at neuron 8, and the answer at 9.

    Args:
        flips: Says (B,) whether an answer is turned round, of the number at a site and the row's own.
    """

    def second(objects: Tensor) -> dict[int, Tensor]:
        number = numbered(objects).float()
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
    return Network((*stages[:-1], _logits(aligned=0.0, tint=0.0)), SITES)


def untrained() -> Network:
    """Return a network of random weights."""
    generator = torch.Generator().manual_seed(4)
    stages: list[Stage] = [_differences]
    for new in (WIDTH, WIDTH, WIDTH, 2):
        weight = torch.randn(new, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
        stages.append(Dense(weight, torch.zeros(new), relu=new == WIDTH))
    return Network(tuple(stages), SITES)
