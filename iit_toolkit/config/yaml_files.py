"""Reads YAML as every file of the toolkit is read: mappings, lists, texts, numbers, true, false and null, in bounds.

Scalars are those of YAML 1.2, so `no` and `2020-01-01` and `1:30` are texts, and 3e-4 is a number. Numbers are
decimal; what has leading zeros or underscores is a text. Keys are texts, and none may occur twice in a mapping. There
are no tags. Anchors, aliases and merges (`<<`) are read as if what they name were written out, bounds included.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from iit_toolkit.errors import UserError, on_one_line, one_line, shown
from iit_toolkit.files.text_files import MAX_DEPTH, MAX_DIGITS, MAX_NODES, read_text, require_size

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is ten times as fast
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS = {"": None, "~": None} | {
    spelt: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelt in (word, word.capitalize(), word.upper())
}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def read_yaml(path: Path) -> object:
    """Read a YAML file.

    Raises:
        UserError: If it can't be read or is not valid YAML.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> object:
    """Read YAML.

    Args:
        text: What is read.
        where: What messages call it.

    Raises:
        UserError: If it is not valid YAML, or beyond a bound.
    """
    require_size(text, where)
    if "\ufeff" in text[:1]:
        text = text[1:]
    return _Reader(text, where).document()


def dump_yaml(content: Any) -> str:
    """Write plain data as YAML that `parse_yaml`, and any other reader of YAML 1.1 or 1.2, reads back equal.

    Raises:
        UserError: If it holds itself, or what YAML cannot express.
    """
    try:
        return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"can't be written as YAML ({one_line(error)}); give plain data that does not hold itself"
        ) from None


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 would take for something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - true of everything
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@dataclass(frozen=True)
class _Anchored:
    """What an alias stands for, with the number of its nodes and of its levels."""

    value: object
    nodes: int
    levels: int


class _Reader:
    """Builds plain data from the events of one document."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._events = self._parsed(text)
        self._nodes = 0
        self._anchored: dict[str, _Anchored | None] = {}  # None while it is being read
        self._levels = 0  # of what was read last

    def document(self) -> object:
        """Read the only document; None if there is none."""
        event = next(self._events)
        if isinstance(event, yaml.StreamStartEvent):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._refuse(event, "a second document begins; give each a file of its own")
        return value

    def _parsed(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=_PARSER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
            reason = "; ".join(part for part in (error.context, error.problem) if part)
            raise UserError(f"{self._where}{place}: no valid YAML ({on_one_line(reason)})") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as a character that does not exist
            raise UserError(f"{self._where}: no valid YAML ({one_line(error)})") from None

    def _value(self, event: yaml.Event, depth: int) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES:,} values, aliases written out; give fewer")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        assert isinstance(event, yaml.NodeEvent)
        self._refuse_tag(event)
        if depth >= MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep; write it flatter")
        anchor, before = event.anchor, self._nodes
        if anchor is not None:
            self._anchored[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value, self._levels = self._scalar(event), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(depth)
        else:
            value = self._mapping(depth)
        if anchor is not None:
            self._anchored[anchor] = _Anchored(value, self._nodes - before, self._levels)
        return value

    def _alias(self, event: yaml.AliasEvent, depth: int) -> object:
        if event.anchor not in self._anchored:
            self._refuse(event, f"no anchor &{event.anchor} comes before this alias")
        named = self._anchored[event.anchor]
        if named is None:
            self._refuse(event, f"*{event.anchor} stands inside of what it names; write out what is meant")
        self._nodes += named.nodes
        self._levels = named.levels
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES:,} values, aliases written out; give fewer")
        if depth + named.levels > MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep; write it flatter")
        return _copied(named.value)

    def _list(self, depth: int) -> list[object]:
        values: list[object] = []
        levels = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, depth + 1))
            levels = max(levels, self._levels)
        self._levels = levels + 1
        return values

    def _mapping(self, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        levels = 0
        seen: set[tuple[str, bool]] = set()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, merges = self._key(event)
            if (key, merges) in seen:
                self._refuse(event, f'no valid YAML: key "{on_one_line(key)}" occurs twice')
            seen.add((key, merges))
            value = self._value(following := next(self._events), depth + 1)
            levels = max(levels, self._levels)
            if merges:
                merged = self._merged(value, following)
            else:
                own[key] = value
        self._levels = levels + 1
        return {**merged, **own}

    def _key(self, event: yaml.Event) -> tuple[str, bool]:
        """Return the text of a key, and whether it merges."""
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, "no valid YAML: a key must be a text, such as name")
        self._refuse_tag(event)
        self._nodes += 1
        if not event.value:
            self._refuse(event, "no valid YAML: a key is empty; give a text, such as name")
        self._require_text(event)
        if event.anchor is not None:
            self._anchored[event.anchor] = _Anchored(event.value, 1, 0)
        return event.value, event.value == "<<" and not event.style

    def _merged(self, value: object, event: yaml.Event) -> dict[str, object]:
        given: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        merged: dict[str, object] = {}
        for one in given:
            if not isinstance(one, dict):
                self._refuse(event, "no valid YAML: << merges keys and values only")
            merged = {**one, **merged}  # the first one wins
        return merged

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        text = event.value
        self._require_text(event)
        if event.style:  # quoted, or a block
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            if len(text.lstrip("+-")) > MAX_DIGITS:
                self._refuse(event, f"an integer of more than {MAX_DIGITS} digits; quote it if it is a text")
            return int(text)
        if special := _SPECIAL.fullmatch(text):
            return math.nan if special[3] else float(f"{special[1]}inf")
        if not text.isdigit() and ("." in text or "e" in text or "E" in text) and _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self._refuse(event, f"the number {shown(text)} is too large; quote it if it is a text")
            return number
        return text

    def _require_text(self, event: yaml.ScalarEvent) -> None:
        if found := _UNPRINTABLE.search(event.value):
            self._refuse(event, f"a text holds the control character {found[0]!a}; leave it out")

    def _refuse_tag(self, event: yaml.NodeEvent) -> None:
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            written = on_one_line(tag.replace("tag:yaml.org,2002:", "!!"))
            self._refuse(event, f"no valid YAML here: the tag {shown(written)} is not read; leave it out")

    def _refuse(self, event: yaml.Event, reason: str) -> NoReturn:
        mark: Any = event.start_mark
        raise UserError(f"{self._where}, line {mark.line + 1}, column {mark.column + 1}: {reason}")


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_copied(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return value
