"""The special tokens of a tokenizer, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens; None where the tokenizer has no such token.

    Attributes:
        every: All special ids.
        pad: What short rows are filled with. A tokenizer without padding token (GPT-2, Llama) gets its end
            token or 0: the attention mask hides it, and that classifiers of the last token find theirs is certified.
    """

    every: tuple[int, ...]
    pad: int
    bos: int | None
    cls: int | None
    sep: int | None
    mask: int | None
    unk: int | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
        """Reads them from a tokenizer."""
        known = cast(Any, tokenizer)  # its attributes are annotated as almost anything
        pad = known.pad_token_id
        return cls(
            every=tuple(known.all_special_ids),
            pad=pad if pad is not None else known.eos_token_id or 0,
            bos=known.bos_token_id,
            cls=known.cls_token_id,
            sep=known.sep_token_id,
            mask=known.mask_token_id,
            unk=known.unk_token_id,
        )
