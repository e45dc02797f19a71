"""The matrix products of a step, one after another as the step has them, and nothing else.

Each has operands of its own, so none finds them in the cache, as a product repeated by itself does. Results of one
shape share their memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.products import Ledger, Product


class Replay:
    """Products that can be run again and again.

    Args:
        ledgers: The products by part, in their order. In a backward part, every second product is the gradient of a
            weight, whose left operand is transposed; a forward product's right operand is.
    """

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._results: dict[tuple[int, int], Tensor] = {}
        self._single: list[tuple[Tensor, Tensor, Tensor]] = []
        self._batched: list[tuple[Tensor, Tensor]] = []
        for ledger in ledgers:
            for part, products in ledger.items():
                for place, one in enumerate(products):
                    self._add(one, backward=part.startswith("backward"), of_weight=place % 2 == 1)

    def run(self) -> None:
        """Run all products once."""
        for left, right, result in self._single:
            torch.mm(left, right, out=result)
        for left, right in self._batched:
            torch.bmm(left, right)

    def _add(self, one: Product, *, backward: bool, of_weight: bool) -> None:
        if one.batched:
            self._batched.append(
                (torch.randn(one.count, one.rows, one.inner), torch.randn(one.count, one.inner, one.columns))
            )
            return
        for _ in range(one.count):
            left = torch.randn(one.inner, one.rows).T if backward and of_weight else torch.randn(one.rows, one.inner)
            right = torch.randn(one.inner, one.columns) if backward else torch.randn(one.columns, one.inner).T
            self._single.append((left, right, self._result(one.rows, one.columns)))

    def _result(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) not in self._results:
            padded = 16 * math.ceil(columns / 16)  # aligned rows are faster
            self._results[rows, columns] = torch.empty(rows, padded)[:, :columns]
        return self._results[rows, columns]
