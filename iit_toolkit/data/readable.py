"""What models can read: which tokens they know, and how long a row may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from iit_toolkit.data.batch import Collator, Row
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNUSED_POSITIONS = 2
"""Tables of positions have so many rows more than positions, in OPT and BART."""


@dataclass(frozen=True)
class Readable:
    """Makes batches that models can read: a token that none has an embedding for would end a run within torch.

    Attributes:
        collator: Makes the batches.
        models: Models by what messages call them, with the number of their embeddings and, if they look positions up
            in a table, the longest row that they read.
    """

    collator: Collator
    models: Mapping[str, tuple[int, int | None]]

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Make a batch.

        Raises:
            UserError: If a model does not know a token, or a row is too long for it.
        """
        batch = self.collator(rows)
        given: Any = batch
        for side in ("", "source_") if isinstance(given, Mapping) else ():
            ids = batch.get(f"{side}input_ids")
            if ids is None or not ids.numel():
                continue
            lowest, highest, longest = int(ids.min()), int(ids.max()), ids.shape[1]
            for name, (known, limit) in self.models.items():
                if lowest < 0 or highest >= known:
                    raise UserError(
                        f"{name}: a row holds the token {lowest if lowest < 0 else highest}, but its embeddings are of "
                        f"0 to {known - 1}; give rows of its own tokenizer"
                    )
                if limit is not None and longest > limit and f"{side}position_ids" not in batch:
                    raise UserError(f"{name}: a row has {longest} tokens, but it reads {limit} at most; cut rows there")
        return batch


def readable(collator: Collator, models: Mapping[str, Any]) -> Collator:
    """Return a collator whose batches models can read, or that says why one can't.

    Args:
        collator: Makes the batches.
        models: The models, by what messages call them; those without an embedding of tokens read anything.
    """
    tables = {name: token_embeddings(model) for name, model in models.items()}
    known = {name: table.num_embeddings for name, table in tables.items() if table is not None}
    return Readable(collator, {name: (count, _last_position(models[name])) for name, count in known.items()})


def token_embeddings(model: Any) -> nn.Embedding | None:
    """Return a model's table of tokens, or `None` if it has none, or does not say where."""
    try:
        found: Any = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # no model of transformers, or one of images or sounds
        return None
    return found if isinstance(found, nn.Embedding) else None


def _last_position(model: Any) -> int | None:
    """Return the longest row that a model can read, or `None` if it computes positions, and so has no last one."""
    limit: Any = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    words = token_embeddings(model)
    tables = (one for one in model.modules() if isinstance(one, nn.Embedding) and one is not words)
    looked_up = any(limit <= one.num_embeddings <= limit + _UNUSED_POSITIONS for one in tables)
    return readable_tokens(model) if looked_up else None


def readable_tokens(model: PreTrainedModel) -> int | None:
    """Return the longest input that a model accepts, or `None` if its config sets no limit.

    Models of the RoBERTa family count positions from `padding_idx + 1`, so that many positions are unavailable.
    """
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    if limit is None:
        return None
    for name, module in model.named_modules():
        unused = getattr(module, "padding_idx", None) if name.endswith("position_embeddings") else None
        if isinstance(unused, int):
            return limit - unused - 1
    return limit
