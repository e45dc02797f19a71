"""The first fault of an alignment or a site, in one line."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from iit_toolkit.errors import did_you_mean, mistakes

SITE, PROGRAM_VARIABLE = "a site", "a variable of a program"
"""What can stand on the teacher's side. pydantic adds these to the place of a fault, which does not need them."""


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say the first fault of a pydantic validation in one line, naming the nearest key if one is unknown."""
    first = mistakes(error)[0]
    where = ".".join(str(key) for key in first.keys if key not in (SITE, PROGRAM_VARIABLE))
    if first.kind == "extra_forbidden":
        return f"unknown key `{where}`" + nearest(str(first.keys[-1]), {*_all_keys(model)} - {first.keys[-1]})
    if first.kind in ("model_type", "model_attributes_type"):
        return (
            f"`{where}`: needs keys, such as {{kind: ...}}" if where else "must hold keys, such as name and variables"
        )
    if first.keys[:1] == ("draw",):
        return "`draw`: give `uniform`, or a weight per variable, such as {middle: 0.7, late: 0.3}"
    return f"`{where}`: {first.message}" if where else first.message


def _all_keys(model: type[BaseModel]) -> list[str]:
    keys: set[str] = set()

    def collect(schema: object) -> None:
        if isinstance(schema, dict):
            keys.update(schema.get("properties", {}))
            for value in schema.values():
                collect(value)
        elif isinstance(schema, list):
            for value in schema:
                collect(value)

    collect(model.model_json_schema())
    return sorted(keys)


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the word most like the given one, or nothing if none is."""
    hint = did_you_mean(word, words, otherwise="")
    return f"; {hint}" if hint else ""
