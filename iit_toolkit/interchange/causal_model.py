"""A causal model: a program with named variables, whose every function computes a whole batch at once.

Legend of shapes: B rows. Geiger et al. 2021 (arXiv 2106.02997) define the interchange interventions that it runs.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from iit_toolkit.errors import UserError, did_you_mean, one_line, shown
from iit_toolkit.interchange.tabulated import TabulatedFunction

Values: TypeAlias = Mapping[str, Tensor]
"""A batch of values by variable, (B, ...) each."""
Domain: TypeAlias = Sequence[bool | int | float]


class CausalModel:
    """A program: variables, the variables that each is computed from, and how.

        equal = iit.CausalModel(
            parents={"a": (), "b": (), "equal": ("a", "b")},
            functions={"equal": lambda a, b: (a == b).all(1)},
            domains={"equal": (False, True)},
            answer="equal",
        )

    Args:
        parents: Every variable, with the variables that its function reads, in order. Inputs read none.
        functions: The function of every variable with parents. It takes the (B, ...) values of the parents and returns
            its own, one per row.
        domains: The values that variables can take, numbers or booleans. Variables that are left out can take any.
        answer: The variable that the program answers with. Its domain lists the classes in the order of their numbers.

    Attributes:
        order: The variables, each after its parents.
        values: What the numbers of a program made by `from_pyvene` stand for, by variable; empty for others.

    Raises:
        UserError: If parents form a cycle or are no variables, a function is missing or has no variable, or the answer
            has no domain of two or more values. If a domain holds anything but numbers and booleans, or one twice.
    """

    def __init__(
        self,
        parents: Mapping[str, Sequence[str]],
        functions: Mapping[str, Callable[..., Tensor]],
        domains: Mapping[str, Domain],
        answer: str,
    ) -> None:
        """Check that the parts belong together, and order the variables."""
        self.parents = {name: tuple(one) for name, one in parents.items()}
        self.functions = dict(functions)
        self.domains = {name: tuple(values) for name, values in domains.items()}
        self.answer = answer
        self.values: dict[str, tuple[Any, ...]] = {}
        for name, others in self.parents.items():
            for parent in others:
                if parent not in self.parents:
                    raise UserError(f"variable {name!r}: {self._unknown(parent, 'parent')}")
            if bool(others) != (name in self.functions):
                has = "has parents but no function" if others else "has a function but no parents"
                raise UserError(f"variable {name!r} {has}; give both, or neither if it is an input")
        for what, named in (("functions", self.functions), ("domains", self.domains), ("answer", [answer])):
            for name in named:
                if name not in self.parents:
                    raise UserError(f"{what}: {self._unknown(name)}")
        if len(set(self.domains.get(answer, ()))) < 2:
            raise UserError(f"answer {answer!r} needs a domain of 2 or more values: they are the classes")
        try:
            self.order = tuple(graphlib.TopologicalSorter(self.parents).static_order())
        except graphlib.CycleError as error:
            cycle = " <- ".join(error.args[1])
            raise UserError(f"parents form a cycle: {cycle}; a variable must not be computed from itself") from None
        for name, values in self.domains.items():
            given: Any = values  # whoever builds a program may give anything
            wrong = next((one for one in given if not isinstance(one, bool | int | float)), None)
            if not values or wrong is not None:
                found = "is empty" if not values else f"holds {shown(wrong)}"
                raise UserError(f"the domain of variable {name!r} {found}; give numbers or booleans, such as range(3)")
            twice = next((one for place, one in enumerate(values) if one in values[:place]), None)
            if twice is not None:
                raise UserError(f"the domain of variable {name!r} holds {twice} twice; give every value once")
        self._domains = {name: torch.tensor(values) for name, values in self.domains.items()}

    @classmethod
    def from_pyvene(cls, model: Any, answer: str | None = None) -> CausalModel:
        """Make a program of a `pyvene.CausalModel`, whose functions compute one setting at a time.

        A value becomes its number in pyvene's list of the variable's values, kept in `values`. A function is called
        once for every combination of its parents' values that occurs.

        Args:
            model: The model.
            answer: The variable that the program answers with; by default, the only one without children.

        Raises:
            UserError: If variables have no list of values, there are several without children and none is named, or
                parents form a cycle.
        """
        outputs: list[str] = list(model.outputs)
        if answer is None and len(outputs) != 1:
            raise UserError(f"the model has {len(outputs)} outputs ({', '.join(outputs)}); name one, answer=...")
        values = {name: tuple(model.values[name] or ()) for name in cast("list[str]", model.variables)}
        for name, found in values.items():
            if not found:
                raise UserError(f"variable {name!r} has no list of values; give its values, or write iit.CausalModel")
        parents = {name: tuple(cast("Sequence[str]", model.parents[name])) for name in values}
        functions = {
            name: TabulatedFunction(name, model.functions[name], values[name], [values[one] for one in others])
            for name, others in parents.items()
            if others
        }
        made = cls(parents, functions, {name: range(len(one)) for name, one in values.items()}, answer or outputs[0])
        made.values = values
        return made

    @property
    def inputs(self) -> Collection[str]:
        """The variables without parents, which a batch must give."""
        return [name for name in self.order if not self.parents[name]]

    def run(self, inputs: Values, setting: Values | None = None) -> dict[str, Tensor]:
        """Compute every variable.

        Args:
            inputs: The values of the inputs, (B, ...) each. Other entries are ignored.
            setting: Values that variables are set to, in place of what they would compute.

        Returns:
            The values of all variables.

        Raises:
            UserError: If an input is missing, what is set is no variable, a value is outside its domain, or has another
                number of rows. If a function fails on what it is given, or changes it in place.
        """
        given = dict(setting or {})
        for name in given:
            self._require(name, "setting")
        values: dict[str, Tensor] = {}
        rows: int | None = None
        for name in self.order:
            if name in given:
                value = given[name]
            elif self.parents[name]:
                value = self._computed(name, [values[parent] for parent in self.parents[name]])
            elif name in inputs:
                value = inputs[name]
            else:
                raise UserError(f"input {name!r} is missing; the program reads: {', '.join(self.inputs)}")
            rows = self._checked(name, value, rows)
            values[name] = value
        return values

    def interchange(self, base: Values, sources: Mapping[str, Values]) -> dict[str, Tensor]:
        """Run the base with variables set to what they are in their sources.

        Args:
            base: Inputs, as for `run`.
            sources: By variable, the inputs of its source: row i is the source of base row i.

        Returns:
            The values of all variables.

        Raises:
            UserError: If a source is of no variable, or as for `run`.
        """
        for name in sources:
            self._require(name, "sources")
        ran = {id(source): self.run(source) for source in sources.values()}
        return self.run(base, {name: ran[id(source)][name] for name, source in sources.items()})

    def answers(self, values: Values) -> Tensor:
        """Return the number (B,) of each row's answer in the answer's domain."""
        found = values[self.answer]
        return (found[:, None] == self._domains[self.answer].to(found.device)).long().argmax(1)

    def past(self, variables: Collection[str]) -> list[str]:
        """Return the inputs that reach the answer by a path without any of some variables, in their order."""
        reached: set[str] = set()
        following = [self.answer]
        while following:
            name = following.pop()
            if name not in reached and name not in variables:
                reached.add(name)
                following += self.parents[name]
        return [name for name in self.inputs if name in reached]

    def require_variables(self, names: Sequence[str], where: str) -> None:
        """Check that the program has these variables.

        Args:
            names: The variables.
            where: What the message says of where they are named.

        Raises:
            UserError: Naming the first that it does not have, and the nearest one that it has.
        """
        for name in names:
            self._require(name, where)

    def _computed(self, name: str, given: Sequence[Tensor]) -> Tensor:
        """Return what a variable's function makes of its parents' values."""
        before = [_version(one) for one in given]
        try:
            found = self.functions[name](*given)
        except UserError:
            raise
        except Exception as error:
            shapes = ", ".join(
                f"{parent} {list(one.shape)}" for parent, one in zip(self.parents[name], given, strict=True)
            )
            said = ": ".join(filter(None, [type(error).__name__, one_line(error)]))
            raise UserError(
                f"the function of variable {name!r} fails on {shapes}: {said}; correct it, or give inputs of the "
                "shapes that it reads"
            ) from error
        for parent, value, version in zip(self.parents[name], given, before, strict=True):
            if _version(value) != version:
                raise UserError(
                    f"the function of variable {name!r} changes {parent!r} in place, which others read, too; return a "
                    "new tensor"
                )
        return found

    def _require(self, name: str, where: str) -> None:
        if name not in self.parents:
            raise UserError(f"{where}: {self._unknown(name)}")

    def _unknown(self, name: str, what: str = "variable") -> str:
        return f"the program has no {what} {shown(name)}, {did_you_mean(name, self.parents)}"

    def _checked(self, name: str, value: object, rows: int | None) -> int:
        """Return the number of rows of a value that fits its variable."""
        if not isinstance(value, Tensor) or not value.dim():
            kind = "a single number" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise UserError(f"variable {name!r} is {kind}; give a tensor with one value per row")
        if rows is not None and len(value) != rows:
            raise UserError(f"variable {name!r} has {len(value)} rows, others have {rows}; give one value per row")
        domain = self._domains.get(name)
        if domain is not None:
            if value.dim() != 1:
                shape = list(value.shape)
                raise UserError(f"variable {name!r} has shape {shape}; a variable with a domain has one value per row")
            outside = ~(value[:, None] == domain.to(value.device)).any(1)
            if bool(outside.any()):
                row = int(outside.nonzero()[0])
                raise UserError(
                    f"variable {name!r} is {value[row].item()} in row {row}, which is outside its domain "
                    f"{shown(list(self.domains[name]))}"
                )
        return len(value)


def _version(value: Tensor) -> int:
    """Return how often a tensor was changed in place; torch does not count this in inference mode."""
    return 0 if value.is_inference() else value._version  # pyright: ignore[reportPrivateUsage]
