"""What is swapped in one model: a place, or neurons, heads or learned directions of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from iit_toolkit.alignment.architectures import COMPONENTS
from iit_toolkit.alignment.faults import explain, nearest
from iit_toolkit.alignment.fields import Index, Strict
from iit_toolkit.errors import UserError, shown


class Place(Strict):
    """Where an activation is read or written, in pyvene's words.

    Attributes:
        component: A component of a block (`block_output`, ...), which needs `layer`; or the path of any module,
            followed by `.input` or `.output`, which must not have a `layer`.
        layer: 0-based index of the block.
    """

    component: Annotated[str, Field(strict=True)]
    layer: Index | None = None

    @model_validator(mode="after")
    def _component_and_layer_agree(self) -> Place:
        if self.component in COMPONENTS:
            if self.layer is None:
                raise ValueError(f"component {self.component} needs a `layer`")
        elif not self.component.endswith((".input", ".output")):
            raise ValueError(
                f"component {shown(self.component)} is neither one of {', '.join(COMPONENTS)} "
                "nor a module path ending in .input or .output" + nearest(self.component, COMPONENTS)
            )
        elif self.layer is not None:
            raise ValueError(f"component {self.component!r} is a module path, so `layer` must be left out")
        return self


class Subspace(Strict):
    """Directions of a site that are learned, and swapped in place of its neurons: `subspace: {rank: 16}`.

    Attributes:
        rank: How many directions, from 1 to the site's neurons less 1.
        boundary: `learned` if training also learns how many of the directions are swapped, from 1 to `rank` (Boundless
            DAS; Wu et al. 2023, arXiv 2305.08809).
        rotation: `shared` if all sites of the same place that say so hold different directions of one rotation, which
            are orthogonal (Geiger et al. 2023, arXiv 2303.02536); otherwise the site has its own.
    """

    rank: Annotated[Index, Field(ge=1)]
    boundary: Literal["learned"] | None = None
    rotation: Literal["shared"] | None = None


class Site(Place):
    """One place in one model whose activations are swapped.

    Attributes:
        neuron_range: Range `[low, high)` of neurons, in files `neurons`; the whole vector if absent.
        head_indices: Attention heads, for `attention_value_output`; in files `heads`.
        subspace: The rank of a learned subspace, which is swapped alone.
        read: Where the source's activation is read, if that is another place than where it is written.
    """

    neuron_range: tuple[Index, Index] | None = Field(default=None, alias="neurons")
    head_indices: tuple[Index, ...] | None = Field(default=None, alias="heads")
    subspace: Subspace | None = None
    read: Place | None = None

    @model_validator(mode="after")
    def _part_is_sound(self) -> Site:
        if self.subspace is not None and (self.neuron_range or self.head_indices) is not None:
            raise ValueError("a site has a `subspace`, or `neurons` or `heads`, not both: it is one of all neurons")
        if self.subspace is not None and self.read is not None:
            raise ValueError("a `subspace` is read where it is written; leave out `read`")
        if self.neuron_range is not None and self.head_indices is not None:
            raise ValueError("a site has `neurons` or `heads`, not both")
        if self.neuron_range is not None and not 0 <= self.neuron_range[0] < self.neuron_range[1]:
            raise ValueError(f"neurons {list(self.neuron_range)} is empty; write [low, high] with 0 <= low < high")
        if self.head_indices is not None and self.component != "attention_value_output":
            raise ValueError("`heads` needs component attention_value_output (the heads' outputs side by side)")
        if self.head_indices is not None and not 0 < len(self.head_indices) == len(set(self.head_indices)):
            raise ValueError("`heads` must name at least one head, each once")
        return self

    @classmethod
    def block(cls, layer: int) -> Site:
        """Return the output of a block.

        Args:
            layer: 0-based index of the block.

        Raises:
            UserError: If the index is no whole number.
        """
        return cls._made(component="block_output", layer=layer)

    @classmethod
    def neurons(cls, layer: int, low: int, high: int) -> Site:
        """Return the neurons `[low, high)` of a block's output.

        Raises:
            UserError: If the range is empty.
        """
        return cls._made(component="block_output", layer=layer, neurons=(low, high))

    @classmethod
    def heads(cls, layer: int, heads: int | Sequence[int]) -> Site:
        """Return the outputs of one or several attention heads of a block.

        Raises:
            UserError: If no head is named, or one twice.
        """
        several = [heads] if isinstance(heads, int) else heads
        return cls._made(component="attention_value_output", layer=layer, heads=several)

    @classmethod
    def module(cls, component: str, neurons: tuple[int, int] | None = None) -> Site:
        """Return the input or output of any module.

        Args:
            component: The module's path, followed by `.input` or `.output`.
            neurons: Range `[low, high)`; the whole vector if absent.

        Raises:
            UserError: If the path ends otherwise, or the range is empty.
        """
        return cls._made(component=component, neurons=neurons)

    @classmethod
    def learned(
        cls,
        place: int | str,
        rank: int,
        *,
        boundary: Literal["learned"] | None = None,
        rotation: Literal["shared"] | None = None,
    ) -> Site:
        """Return a learned subspace of a block's output, or of the input or output of any module.

        Args:
            place: 0-based index of the block; or the module's path, followed by `.input` or `.output`.
            rank: How many directions, from 1 to the site's neurons less 1.
            boundary: `learned` if training also learns how many of them are swapped.
            rotation: `shared` if the directions are orthogonal to those of other such sites of the same place.

        Raises:
            UserError: If the rank is no whole number of 1 or more, or the path ends otherwise.
        """
        where = {"component": place} if isinstance(place, str) else {"component": "block_output", "layer": place}
        return cls._made(**where, subspace={"rank": rank, "boundary": boundary, "rotation": rotation})

    @classmethod
    def _made(cls, **content: Any) -> Site:
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(f"site: {explain(error, cls)}") from None
