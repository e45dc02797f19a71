"""Minimal pairs with questions: made from templates and words, or built from tables."""

from iit_toolkit.data.minimal_pairs.blimp import blimp
from iit_toolkit.data.minimal_pairs.built import BuiltPairs
from iit_toolkit.data.minimal_pairs.columns import from_columns
from iit_toolkit.data.minimal_pairs.families import FAMILIES, family, minimal_pairs
from iit_toolkit.data.minimal_pairs.family import SPLITS, Family
from iit_toolkit.data.minimal_pairs.polarity import polarity
from iit_toolkit.data.minimal_pairs.rows import PairRow, to_dataset
from iit_toolkit.data.minimal_pairs.substitutions import SubstitutedPairs, substitute
from iit_toolkit.data.minimal_pairs.tokens import AnswerTokens, answer_tokens

__all__ = [
    "FAMILIES",
    "SPLITS",
    "AnswerTokens",
    "BuiltPairs",
    "Family",
    "PairRow",
    "SubstitutedPairs",
    "answer_tokens",
    "blimp",
    "family",
    "from_columns",
    "minimal_pairs",
    "polarity",
    "substitute",
    "to_dataset",
]
