"""The fields that models of alignments are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from iit_toolkit.errors import shown

MAX_LABEL = 100
"""Characters of a name that reports and tables show."""


def _label(text: str) -> str:
    """Refuse a name that a line of a terminal or a table could not show."""
    if not text.isprintable() or len(text) > MAX_LABEL:
        raise ValueError(f"{shown(text)} is no name: give at most {MAX_LABEL} printable characters on one line")
    return text


Label = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_label)]
Index = Annotated[int, Field(strict=True, gt=-(2**31), lt=2**31)]
"""A block, neuron, head or position: no tensor has more, and a later check asks whether the model has so many."""


class Strict(BaseModel):
    """A model that takes no unknown key and stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
