"""How many neurons of a teacher carry what a place holds: what swaps of a few of them do, by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.teacher_trace import Place

NEARLY = 0.9
"""Share of the answers that the swap of all neurons changes: neurons that change so many suffice."""


@dataclass(frozen=True)
class NeuronShare:
    """What the swap of some neurons does to the teacher's answers.

    Attributes:
        neurons: How many are swapped.
        chosen: Share of cases in which the answer changes, if those with the largest attribution are swapped.
        random: The same of as many random neurons, as a mean over draws; `None` if all neurons are swapped.
        lead: By how much more answers change with the chosen ones; `None` if all neurons are swapped.
    """

    neurons: int
    chosen: Estimate
    random: Estimate | None = None
    lead: Estimate | None = None


@dataclass(frozen=True)
class TraceNeurons:
    """Which neurons of a place carry what the teacher's answers depend on.

    Attributes:
        place: Where the neurons are.
        attribution: (D,) of every neuron, the first-order estimate of what its swap adds to the logit of the source's
            answer less that of the base's, as a mean over cases.
        cases: Over how many cases.
        shares: What real swaps do in other cases, by number of neurons; the last are all.
    """

    place: Place
    attribution: tuple[float, ...]
    cases: int
    shares: tuple[NeuronShare, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The neurons, those with the largest attribution first."""
        return ranked(self.attribution)

    @property
    def enough(self) -> NeuronShare | None:
        """The fewest neurons, of those tried, that change nine tenths of the answers that all change.

        `None` if the swap of all neurons changes no answer.
        """
        most = self.shares[-1].chosen.value
        if not most:
            return None
        return next(one for one in self.shares if (one.chosen.value or 0.0) >= NEARLY * most)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON; `attribution` is in the order of `order`."""
        order = self.order
        return {
            "positions": self.place.positions,
            "component": self.place.component,
            "layer": self.place.layer,
            "cases": self.cases,
            "order": list(order),
            "attribution": [self.attribution[neuron] for neuron in order],
            "shares": [_row(one) for one in self.shares],
        }


@dataclass(frozen=True)
class NeuronSums:
    """Sums over the cases of each pair of base and source, (P,) each.

    Attributes:
        pairs: `base`, `source`, `base_text` and `source_text`, what the pair is made of.
        cases: How many cases there are.
        chosen: By number of neurons, in how many the answer changes with the chosen ones; the last are all.
        random: By number of neurons, the same with random ones, as a mean over draws; none of all neurons.
    """

    pairs: Mapping[str, NDArray[np.int64]]
    cases: NDArray[np.float64]
    chosen: Mapping[int, NDArray[np.float64]]
    random: Mapping[int, NDArray[np.float64]]


def ranked(attribution: Sequence[float]) -> tuple[int, ...]:
    """Return the numbers of neurons, the largest attribution first; of equal ones, the lower number."""
    return tuple(np.argsort(-np.asarray(attribution), kind="stable").tolist())


def numbers_of_neurons(width: int) -> tuple[int, ...]:
    """Return how many neurons are tried: 1, 2, 4, and so on, and all."""
    return (*(2**power for power in range((width - 1).bit_length())), width)


def estimated_shares(sums: NeuronSums, *, resamples: int = 2000, seed: int = 0) -> tuple[NeuronShare, ...]:
    """Estimate what each swap does, with intervals over the texts of bases and sources.

    Args:
        sums: The sums.
        resamples: How many times texts are drawn.
        seed: Of these draws.
    """
    columns = {"cases": sums.cases}
    columns |= {f"chosen/{number}": column for number, column in sums.chosen.items()}
    columns |= {f"random/{number}": column for number, column in sums.random.items()}
    pairs = sums.pairs
    resampled = Resampled(
        columns,
        base=pairs["base"],
        source=pairs["source"],
        base_text=pairs["base_text"],
        source_text=pairs["source_text"],
        resamples=resamples,
        seed=seed,
    )

    def share(number: int) -> NeuronShare:
        chosen, random = f"chosen/{number}", f"random/{number}"
        found = NeuronShare(number, resampled.share(chosen, "cases"))
        if number not in sums.random:
            return found
        lead = resampled.lead((chosen, "cases"), (random, "cases"))
        return NeuronShare(number, found.chosen, resampled.share(random, "cases"), lead)

    return tuple(share(number) for number in sums.chosen)


def _row(share: NeuronShare) -> dict[str, Any]:
    estimates = {"chosen": share.chosen, "random": share.random, "lead": share.lead}
    return {
        "neurons": share.neurons,
        "cases": share.chosen.cases,
        "texts": share.chosen.texts,
        **{
            name if end == "value" else f"{name}_{end}": None if one is None else getattr(one, end)
            for name, one in estimates.items()
            for end in ("value", "low", "high")
        },
    }
