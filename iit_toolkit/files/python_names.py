"""Objects of the user's Python, named as `path/to/file.py:name` or `package.module:name`.

Loading one executes the file or module that it is in.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from iit_toolkit.errors import UserError, did_you_mean, one_line, shown
from iit_toolkit.files.paths import require_path

_EXPECTED = "write path/to/file.py:name or package.module:name"


def split_name(given: str, where: str) -> tuple[str, str]:
    """Return the file or module, and the name in it.

    Args:
        given: As `path/to/file.py:name` or `package.module:name`.
        where: What messages call it.

    Raises:
        UserError: If it is neither.
    """
    place, colon, name = require_path(given, where).rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise UserError(f"{where}: {shown(given)} names nothing in Python; {_EXPECTED}")
    return place, name


def python_file(given: str, where: str) -> Path | None:
    """Return the file that an object is named in; none if it is named in a module.

    Raises:
        UserError: If there is no such file, or it is no such name.
    """
    place, _ = split_name(given, where)
    if not place.endswith(".py"):
        return None
    if not Path(place).is_file():
        raise UserError(f"{where}: {place}: no such file; give one that exists, from the working directory on")
    return Path(place)


def python_object(given: str, where: str) -> Any:
    """Execute a file or import a module, and return the object of that name. A file is executed once per content.

    Args:
        given: As `path/to/file.py:name` or `package.module:name`. Relative paths start at the working directory. While
            a file is executed, modules beside it can be imported.
        where: What messages call it.

    Raises:
        UserError: If there is no such file, module or name, or it can't be executed.
    """
    place, name = split_name(given, where)
    path = python_file(given, where)
    try:
        module = importlib.import_module(place) if path is None else _executed(path)
    except UserError as error:
        raise UserError(f"{where}: {place}: {error}") from None
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"{where}: {place} can't be loaded ({type(error).__name__}: {one_line(error)}); correct it, or {_EXPECTED}"
        ) from error
    if not hasattr(module, name):
        own = [one for one in vars(module) if not one.startswith("_")]
        raise UserError(f"{where}: {place} has no {name!r}, {did_you_mean(name, own)}")
    return getattr(module, name)


def _executed(path: Path) -> ModuleType:
    content = path.read_bytes()
    key = hashlib.sha256(str(path.resolve()).encode() + b"\0" + content).hexdigest()
    name = f"iit_toolkit_user_file_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        with _importable(str(path.resolve().parent)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: str) -> Generator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
