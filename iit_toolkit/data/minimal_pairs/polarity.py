"""Reviews with one word turned into its opposite: who finds a film funny finds it boring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from iit_toolkit.data.minimal_pairs.lexicon import Words
from iit_toolkit.data.minimal_pairs.substitutions import SubstitutedPairs, substitute

OPPOSITES = Words(
    "good/bad best/worst smart/stupid strong/weak love/hate perfect/awful wonderful/horrible fun/dull better/worse "
    "impressive/disappointing charming/annoying success/failure well/badly rich/poor moving/hollow "
    "delightful/irritating compelling/pointless winning/losing warm/cold honest/fake satisfying/frustrating "
    "masterpiece/disaster surprising/predictable gorgeous/hideous successful/failed",
    "great/terrible funny/boring fresh/stale loved/hated brilliant/dreadful beautiful/ugly clever/silly "
    "lively/lifeless original/generic easy/hard touching/gross amazing/pathetic sweet/bitter pleasant/unpleasant",
)
"""Praise and blame of one part of speech."""


def opposites(split: str) -> dict[str, str]:
    """Return every word of a split with its opposite, both ways."""
    pairs = [word.split("/") for word in OPPOSITES.of(split)]
    return {word: other for one, two in pairs for word, other in ((one, two), (two, one))}


def polarity(
    reviews: Iterable[Mapping[str, Any]],
    split: Literal["train", "words"],
    *,
    text: str = "text",
    label: str | None = None,
    both_directions: bool = False,
    held: str = "words",
) -> SubstitutedPairs:
    """Make pairs of reviews that have one word of praise or blame: the review, and the one with the opposite word.

    Args:
        reviews: The reviews, with classes 0 (negative) and 1.
        split: `train`: training words, in reviews without any held-out one; `words`: the other way round.
        text: Column of the reviews.
        label: Column of their classes.
        both_directions: Whether every pair comes a second time, with the changed review as its base. Its class is a
            guess: the other one.
        held: What of the pairs is held out; the family is called `polarity, HELD`, or `polarity` in training.

    Raises:
        UserError: As for `substitute`.
    """
    return substitute(
        reviews,
        opposites(split),
        text=text,
        label=label,
        without=opposites("words" if split == "train" else "train"),
        relabelled={0: 1, 1: 0} if both_directions else None,
        family="polarity" if split == "train" else f"polarity, {held}",
    )
