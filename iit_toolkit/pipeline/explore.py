"""One base and one source, typed in: what teacher and student answer before and after the swap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import model_inputs
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.swap import Swap
from iit_toolkit.models.task import task_of

_SIDES = ("teacher", "student")


@dataclass(frozen=True, repr=False)
class Exploration:
    """The likeliest answers of both models to a base, before and after a swap.

    Attributes:
        base: The tokens of the base.
        source: Those of the source.
        swapped: The positions of the base whose activations came from the source.
        variable: The variable that was swapped.
        answers: A row per model and rank: `model`, `rank`, `before`, `p_before`, `after`, `p_after`.
    """

    base: tuple[str, ...]
    source: tuple[str, ...]
    swapped: tuple[int, ...]
    variable: str
    answers: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the answers."""
        return self.answers

    def __repr__(self) -> str:
        """Return both texts, with what is swapped in brackets, and the answers as a table."""
        rows = [f"base    {self._marked(self.base)}", f"source  {self._marked(self.source)}"]
        return "\n".join([*rows, f"swapped at {self.variable}:", self._shown().to_string(index=False)])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the same as HTML, as notebooks show it."""
        texts = "".join(
            f"<p>{name}: {escape(self._marked(tokens))}</p>"
            for name, tokens in (("base", self.base), ("source", self.source))
        )
        return f"{texts}<p>swapped at {escape(self.variable)}</p>{self._shown().to_html(index=False)}"

    def _marked(self, tokens: Sequence[str]) -> str:
        return " ".join(f"[{token}]" if place in self.swapped else token for place, token in enumerate(tokens))

    def _shown(self) -> pd.DataFrame:
        return self.answers.assign(
            **{name: self.answers[name].map("{:.3f}".format) for name in ("p_before", "p_after")}
        )


@torch.no_grad()
def explore(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    alignment: Alignment,
    tokenizer: PreTrainedTokenizerBase,
    base: str | tuple[str, str],
    source: str | tuple[str, str],
    *,
    variable: str | None = None,
    swapped: Sequence[int] | None = None,
    asked: int | None = None,
    top: int = 5,
    subspaces: LearnedSubspaces | None = None,
) -> Exploration:
    """Swap one variable between two texts, and show what both models answer before and after.

    A masked language model is asked at the base's mask token, a causal one after its last token, a classifier for its
    label, a classifier of tokens for that of one token. Works in notebooks and terminals: what is returned prints as a
    table.

    Args:
        teacher: The teacher.
        student: The student.
        alignment: Says where the variable is.
        tokenizer: Of both models.
        base: The text that is asked about; two sentences for a classifier of sentence pairs.
        source: The text, or two sentences, whose activations are swapped in.
        variable: The variable; by default the first.
        swapped: Positions of tokens, the first special one being 0; by default those where the texts differ.
        asked: The position whose label a classifier of tokens is asked for; by default the first swapped one.
        top: How many answers to show.
        subspaces: Those of the student's learned sites.

    Raises:
        UserError: If there is no such variable, the texts have no same number of tokens and `swapped` is not given, a
            position does not exist, or the base has no mask token. If `asked` is given to a model that is no classifier
            of tokens. If the variable is learned, and there are no
            subspaces.
    """
    names = [one.name for one in alignment.variables]
    if variable is not None and variable not in names:
        raise UserError(f'no variable "{variable}", {did_you_mean(variable, names)}')
    chosen, task = variable or names[0], task_of(teacher)
    inputs, others = (_encoded(tokenizer, text, teacher.device) for text in (base, source))
    places = _swapped(inputs["input_ids"][0], others["input_ids"][0], swapped)
    asked_at = _asked(inputs["input_ids"], tokenizer, task, places[0], asked)
    mask = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    mask[0, places] = True
    positions = torch.arange(mask.shape[1])[None].where(mask.cpu(), torch.tensor(0))
    swap = Swap(torch.zeros(1, dtype=torch.long), mask.cpu(), positions).to(teacher.device)
    rows: list[dict[str, Any]] = []
    decided = None if subspaces is None else subspaces.decided()
    for side, model in zip(_SIDES, (teacher, student), strict=True):
        sites = resolve(alignment, model, side)
        engine = InterchangeModel(model.eval(), sites, subspaces=decided)  # pyright: ignore[reportArgumentType]
        run = engine.base_run(inputs, [chosen], tokens=asked_at)
        taken = engine.source_run(others, [chosen])
        after = engine.counterfactual_run(run, chosen, swap, source=taken, tokens=asked_at)
        before, changed = (engine.logits(one).float().softmax(-1).mean(0) for one in (run, after))
        rows += _rows(side, before, changed, tokenizer, model, task, top)
    words = [
        tuple(cast(list[str], tokenizer.convert_ids_to_tokens(one["input_ids"][0].tolist())))
        for one in (inputs, others)
    ]
    return Exploration(words[0], words[1], tuple(places), chosen, pd.DataFrame(rows))


def _encoded(
    tokenizer: PreTrainedTokenizerBase, text: str | tuple[str, str], device: torch.device
) -> dict[str, Tensor]:
    sentences = (text,) if isinstance(text, str) else text
    found = cast(Any, tokenizer)(*sentences, return_tensors="pt")
    return {name: value.to(device) for name, value in model_inputs(found).items()}


def _swapped(base: Tensor, source: Tensor, given: Sequence[int] | None) -> list[int]:
    """Return the positions that are swapped: as given, or where the tokens differ."""
    if given is not None:
        wrong = [place for place in given if not 0 <= place < min(len(base), len(source))]
        if wrong or not given:
            last = min(len(base), len(source)) - 1
            raise UserError(f"swapped {list(given)}: give positions of both texts, 0 to {last}, at least one")
        return list(given)
    if len(base) != len(source):
        raise UserError(
            f"base and source have {len(base)} and {len(source)} tokens, so it is not clear what is swapped; give "
            "texts of one length, or swapped=[...]"
        )
    places: list[int] = (base != source).nonzero().flatten().tolist()
    if not places:
        raise UserError("base and source have the same tokens, so nothing would be swapped; give two texts that differ")
    return places


def _asked(ids: Tensor, tokenizer: PreTrainedTokenizerBase, task: Task, first: int, given: int | None) -> Tensor | None:
    """Return (1, S) where the answer is read; None if it is of the whole text."""
    asked = torch.zeros_like(ids, dtype=torch.bool)
    if task == "token_classification":
        place = first if given is None else given
        if not 0 <= place < ids.shape[1]:
            raise UserError(f"asked {place}: give a position of the base, 0 to {ids.shape[1] - 1}")
        asked[0, place] = True
        return asked
    if given is not None:
        raise UserError(f"asked {given}: only classifiers of tokens are asked at a given position; leave it out")
    if not FACTS[task].at_tokens:
        return None
    if task == "causal_lm":
        asked[0, -1] = True
        return asked
    asked = ids == cast(int, tokenizer.mask_token_id)
    if int(asked.sum()) != 1:
        raise UserError(
            f"the base has {int(asked.sum())} mask tokens; give one {tokenizer.mask_token}, where to answer"
        )
    return asked


def _rows(
    side: str,
    before: Tensor,
    after: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    task: Task,
    top: int,
) -> list[dict[str, Any]]:
    def read(answer: int) -> str:
        if FACTS[task].classes:
            return str(cast(dict[int, str], model.config.id2label)[answer])
        return str(cast(Any, tokenizer).decode([answer]))

    count = min(top, len(before))
    (p_before, ids_before), (p_after, ids_after) = (one.topk(count) for one in (before, after))
    return [
        {
            "model": side,
            "rank": rank + 1,
            "before": read(int(ids_before[rank])),
            "p_before": float(p_before[rank]),
            "after": read(int(ids_after[rank])),
            "p_after": float(p_after[rank]),
        }
        for rank in range(count)
    ]
