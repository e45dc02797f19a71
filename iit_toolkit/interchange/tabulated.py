"""A function of single Python values, made to compute batches: called once for every combination that occurs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from iit_toolkit.errors import UserError, shown


class TabulatedFunction:
    """The function of one variable, over numbers of values in place of values.

    Args:
        name: The variable, for messages.
        function: Takes one value per parent and returns a value of the variable.
        values: The values of the variable.
        parents: The values of each parent.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], values: Sequence[Any], parents: Sequence[Sequence[Any]]
    ) -> None:
        """Keep the parts; nothing is computed yet."""
        self._name = name
        self._function = function
        self._values = values
        self._parents = parents
        self._known: dict[tuple[int, ...], int] = {}

    def __call__(self, *numbers: Tensor) -> Tensor:
        """Return the number (B,) of each row's value, from the numbers (B,) of its parents' values.

        Raises:
            UserError: If the function returns what is none of the variable's values.
        """
        combinations, which = torch.stack(numbers, 1).unique(dim=0, return_inverse=True)
        found = [self._number(tuple(one)) for one in combinations.tolist()]
        return torch.tensor(found, device=which.device)[which]

    def _number(self, combination: tuple[int, ...]) -> int:
        if combination not in self._known:
            given = [values[number] for values, number in zip(self._parents, combination, strict=True)]
            value = self._function(*given)
            number = next((place for place, one in enumerate(self._values) if one == value), None)
            if number is None:
                raise UserError(
                    f"variable {self._name!r} is {shown(value)} of {shown(given)}, which is outside its domain "
                    f"{shown(list(self._values))}"
                )
            self._known[combination] = number
        return self._known[combination]
