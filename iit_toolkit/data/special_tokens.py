"""The special tokens of a tokenizer, as numbers, and what it puts around a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from iit_toolkit.data.encoding import pieces, text_ids
from iit_toolkit.errors import UserError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBES = 16


@dataclass(frozen=True)
class Wrapping:
    """What `tokenizer(text)` puts around the tokens of a text.

    Attributes:
        prefix: Ids before the text.
        suffix: Ids after it.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Wrapping:
        """Find it by what the tokenizer does with pieces of its own vocabulary.

        Neither the names of its special tokens nor their flags are consulted. A template, a flag such as
        `add_bos_token` and a method of its own all show up as ids.

        Raises:
            UserError: If it tokenizes no piece, or does not put the same tokens around each.
        """
        found: set[tuple[tuple[int, ...], tuple[int, ...]]] | None = None
        reason = "it knows no ordinary token"
        for text in pieces(tokenizer, _PROBES):
            try:
                plain, whole = (text_ids(tokenizer, text, wrapped=wrapped) for wrapped in (False, True))
            except Exception as error:  # tokenizers raises no class of its own
                reason = one_line(error)
                continue
            if plain:
                places = [at for at in range(len(whole) + 1) if whole[at : at + len(plain)] == plain]
                around = {(tuple(whole[:at]), tuple(whole[at + len(plain) :])) for at in places}
                found = around if found is None else found & around
        if found is None:
            raise UserError(f"tokenizer {tokenizer.name_or_path} tokenizes nothing ({reason}); give the model's own")
        if not found:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path} does not put the same special tokens around every text, so texts "
                "can't be cut into rows; give a tokenizer with a fixed template"
            )
        return cls(*max(found, key=lambda around: len(around[0])))

    def __len__(self) -> int:
        """Return how many tokens it adds."""
        return len(self.prefix) + len(self.suffix)

    def around(self, ids: Sequence[int]) -> list[int]:
        """Put the special tokens around a text's."""
        return [*self.prefix, *ids, *self.suffix]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens; None if the tokenizer has no such token.

    Attributes:
        every: All special ids.
        pad: What short rows are filled with. A tokenizer without padding token (GPT-2, Llama) gets its end
            token or 0: the attention mask hides it. Certification makes sure that classifiers of the last token find
            theirs.
        wrapping: What the tokenizer puts around a text; it can hold tokens that are not among `every`.
    """

    every: tuple[int, ...]
    pad: int
    mask: int | None
    unk: int | None
    wrapping: Wrapping

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
        """Read them from a tokenizer.

        Raises:
            UserError: As for `Wrapping.of`.
        """
        known = cast(Any, tokenizer)  # its attributes are annotated as almost anything
        pad = known.pad_token_id
        return cls(
            every=tuple(known.all_special_ids),
            pad=pad if pad is not None else known.eos_token_id or 0,
            mask=known.mask_token_id,
            unk=known.unk_token_id,
            wrapping=Wrapping.of(tokenizer),
        )
