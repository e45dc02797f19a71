"""What models are trained for."""

from __future__ import annotations

from typing import Literal

Task = Literal["masked_lm", "causal_lm", "sequence_classification"]
