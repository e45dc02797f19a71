"""What a config names in the user's Python: programs, networks and rows, checked for being such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pyvene
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.python_names import python_file, python_object
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.models.finite import refuse_non_finite_weights

WEIGHTS = "model.safetensors"


def program_named(given: str, where: str) -> CausalModel:
    """Return the program that a name stands for; one of pyvene is made one of ours.

    Args:
        given: The name, of a program or of a function that returns it.
        where: What messages call it.

    Raises:
        UserError: If it stands for something else.
    """
    found = python_object(given, where)
    if callable(found) and not isinstance(found, CausalModel | pyvene.CausalModel):
        found = _called(found, f"{where}: {given}")
    if isinstance(found, pyvene.CausalModel):
        return CausalModel.from_pyvene(found)
    if not isinstance(found, CausalModel):
        raise UserError(
            f"{where}: {given} is a {type(found).__name__}; give an iit_toolkit.CausalModel, a pyvene.CausalModel, or "
            "a function that returns one"
        )
    return found


def network_named(given: str, where: str, weights: str | None = None) -> nn.Module:
    """Return the network that a function makes, with its own weights or those of a folder.

    Args:
        given: The name of the function.
        where: What messages call it.
        weights: A folder that holds `model.safetensors`.

    Raises:
        UserError: If it makes something else, or the weights are not there, not its own, or not finite.
    """
    what = f"{where}: {given}"
    function = python_object(given, where)
    if isinstance(function, nn.Module) or not callable(function):
        raise UserError(f"{what} is a {type(function).__name__}; give a function that returns a torch.nn.Module")
    network = _called(cast(Callable[[], Any], function), what)
    if not isinstance(network, nn.Module):
        raise UserError(f"{what} returns a {type(network).__name__}; return a torch.nn.Module")
    if isinstance(network, PreTrainedModel):
        raise UserError(
            f"{what} returns a {type(network).__name__}, whose answers are no (rows, classes); return a "
            "torch.nn.Module that holds it, reads `inputs` and gives the logits of classes"
        )
    if weights is not None:
        _load(network, Path(weights), where.rpartition(".")[0] or where)
    refuse_non_finite_weights(network, where, "correct the function or the weights")
    return network


def _load(network: nn.Module, folder: Path, where: str) -> None:
    """Put the weights of a folder into a network that the same function made."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{where}.weights: {path}: no such file; give the folder of an arm, such as runs/NAME/ARM")
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{where}.weights: {path} does not fit the network ({one_line(error)}); give weights of the same function"
        ) from None


def python_files(config: NetworkRunConfig) -> dict[str, str]:
    """Return the Python files that a config names, by the names of files that they can be copied to.

    Raises:
        UserError: If one is not there.
    """
    named = {
        "teacher.program": config.teacher.program,
        "teacher.network": config.teacher.network,
        "student.network": config.student.network,
        "data.path": config.data.path,
        "verification.program": config.verification.program,
    }
    found = {python_file(given, where) for where, given in named.items() if given is not None} - {None}
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(one for one in found if one is not None)}


def rows_named(given: str, where: str, program: CausalModel | None) -> tuple[TensorRows, TensorRows]:
    """Return the training rows and the held-out rows that a function makes.

    Args:
        given: The name of the function.
        where: What messages call it.
        program: Gives the labels of rows that have none.

    Raises:
        UserError: If it returns something else, or columns do not fit.
    """
    what = f"{where}: {given}"
    function = python_object(given, where)
    if not callable(function):
        raise UserError(f"{what} is a {type(function).__name__}; give a function that returns rows")
    found = _called(cast(Callable[[], Any], function), what)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise UserError(
            f"{what} returns {_kind(found)}; return two: training rows and held-out rows, such as ({{'inputs': ...}}, "
            "{'inputs': ...})"
        )
    train, held_out = (
        _rows(one, f"{what}, {part}", program)
        for one, part in zip(cast("list[Any]", list(found)), ("training rows", "held-out rows"), strict=True)
    )
    return train, held_out


def _rows(found: Any, what: str, program: CausalModel | None) -> TensorRows:
    if isinstance(found, TensorRows):
        return found
    if not isinstance(found, Mapping):
        raise UserError(f"{what} are {_kind(found)}; give a mapping of columns of tensors, such as {{'inputs': ...}}")
    columns: dict[str, Tensor] = {}
    for name, column in cast("Mapping[str, Any]", found).items():
        try:
            columns[str(name)] = torch.as_tensor(column)
        except (TypeError, ValueError, RuntimeError):
            raise UserError(f"{what}: column {name!r} is {_kind(column)}; give a tensor (rows, ...)") from None
        if not columns[str(name)].dim():
            raise UserError(f"{what}: column {name!r} is a single number; give a tensor (rows, ...)")
    return labelled(columns, what, program)


def labelled(columns: Mapping[str, Tensor], what: str, program: CausalModel | None) -> TensorRows:
    """Return columns as rows; if they have no labels, with the program's answers.

    Raises:
        UserError: If they are no rows, or the program can't be run on them.
    """
    if "labels" not in columns and program is not None:
        try:
            columns = {**columns, "labels": program.answers(program.run(columns))}
        except UserError as error:
            raise UserError(f"the program, run on {what}: {error}") from None
    try:
        return TensorRows(columns)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def _called(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"{what} fails ({type(error).__name__}: {one_line(error)}); it is called without arguments"
        ) from error


def _kind(found: Any) -> str:
    size = f" of {len(found)}" if isinstance(found, tuple | list) else ""  # pyright: ignore[reportUnknownArgumentType]
    return f"a {type(found).__name__}{size}"
