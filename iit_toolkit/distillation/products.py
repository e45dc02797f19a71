"""The matrix products of one forward run, traced on the live model: what a run's cost consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.hooks import called_with

_aten = torch.ops.aten


@dataclass(frozen=True)
class Product:
    """`count` matrix products of (rows, inner) by (inner, columns).

    Attributes:
        rows: Rows of the left matrix.
        inner: Columns of the left, rows of the right matrix.
        columns: Columns of the right matrix.
        count: How many there are.
        batched: Whether more examples mean more products, as in attention, and not more rows.
    """

    rows: int
    inner: int
    columns: int
    count: int = 1
    batched: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns * self.count

    @property
    def elements(self) -> int:
        """Numbers read and written, each operand and result once."""
        return (self.rows * self.inner + self.inner * self.columns + self.rows * self.columns) * self.count

    def of_examples(self, examples: int) -> Product:
        """Return the products of as many examples, if these are those of one."""
        if self.batched:
            return Product(self.rows, self.inner, self.columns, self.count * examples, True)
        return Product(self.rows * examples, self.inner, self.columns, self.count)

    def backward(self) -> list[Product]:
        """Return the two products that give the gradients of both operands."""
        return [
            Product(self.rows, self.columns, self.inner, self.count, self.batched),
            Product(self.inner, self.rows, self.columns, self.count, self.batched),
        ]


@dataclass(frozen=True)
class RunProducts:
    """The products of a forward run of one example, the output embedding left out.

    Attributes:
        below: Those before the first block.
        blocks: Those of each block.
        above: Those after the last block.
    """

    below: list[Product]
    blocks: list[list[Product]]
    above: list[Product]


@torch.no_grad()
def trace_products(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> RunProducts:
    """Run the model once on one example, and note every matrix product.

    The random generators are left as they were, also by a model in training mode.

    Args:
        model: The model; in a model whose blocks are not found, every product counts as below them.
        inputs: Its inputs, for one example.
    """
    try:
        found: Any = blocks(model)
    except UserError:
        found = nn.ModuleList()
    head = model.get_output_embeddings()
    places: list[list[Product]] = [[] for _ in range(len(found) + 2)]
    mode = _Recorder(places)
    handles = [block.register_forward_pre_hook(mode.entering(place)) for place, block in enumerate(found, start=1)]
    if len(found):
        handles.append(found[-1].register_forward_hook(mode.entering(len(found) + 1)))
    if isinstance(head, nn.Module):
        handles.append(head.register_forward_pre_hook(mode.entering(None)))
    try:
        with torch.random.fork_rng(), mode:
            model(**called_with(model, inputs))
    finally:
        for handle in handles:
            handle.remove()
    return RunProducts(places[0], places[1:-1], places[-1])


class _Recorder(TorchDispatchMode):
    """Notes the products of every operation, at the place in the model that is running."""

    def __init__(self, places: list[list[Product]]) -> None:
        super().__init__()
        self._places = places
        self._place: int | None = 0

    def entering(self, place: int | None) -> Callable[..., None]:
        """Return a hook that says where the run now is; `None`: where products are not noted."""

        def enter(*_: object) -> None:
            self._place = place

        return enter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._place is not None:
            self._places[self._place] += _products(func._overloadpacket, args)
        return func(*args, **(kwargs or {}))


def _products(operation: Any, args: tuple[Any, ...]) -> list[Product]:
    if operation is _aten.addmm:
        return [_product(args[1], args[2])]
    if operation in (_aten.mm, _aten.bmm):
        return [_product(args[0], args[1])]
    if operation is _aten.baddbmm:
        return [_product(args[1], args[2])]
    if operation is _aten.convolution:
        return [_convolution(args[0], args[1], args[3])]
    if "_scaled_dot_product" in str(operation):
        query, key, value = args[:3]
        count = prod(query.shape[:-2])
        scores = Product(query.shape[-2], query.shape[-1], key.shape[-2], count, True)
        return [scores, Product(query.shape[-2], key.shape[-2], value.shape[-1], count, True)]
    return []


def _product(left: Tensor, right: Tensor) -> Product:
    count = prod(left.shape[:-2])
    return Product(left.shape[-2], left.shape[-1], right.shape[-1], count, left.dim() > 2)


def _convolution(image: Tensor, weight: Tensor, stride: list[int]) -> Product:
    """Return the one product of a convolution without overlap, as of ViT's patches."""
    places = prod(size // step for size, step in zip(image.shape[2:], stride, strict=True))
    return Product(places * image.shape[0], prod(weight.shape[1:]), weight.shape[0])
