"""Reads YAML as every file of the toolkit is read: 3e-4 is a number, and no key may occur twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
import yaml.composer

from iit_toolkit.errors import UserError, one_line


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 3e-4 is a number (YAML 1.1 takes it for text) and no key may occur twice."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f'key "{key.value}" occurs twice', key.start_mark)
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def read_yaml(path: Path) -> object:
    """Reads a YAML file.

    Raises:
        UserError: If it can't be read or is no valid YAML.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> object:
    """Reads YAML.

    Args:
        text: What is read.
        where: What messages call it.

    Raises:
        UserError: If it is no valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: no object is built from what it reads
    except yaml.YAMLError as error:
        raise UserError(f"{where}: no valid YAML ({one_line(error)})") from None


def read_text(path: Path) -> str:
    """Reads a file of text.

    Raises:
        UserError: If it can't be read, or is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a readable file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({one_line(error)})") from None
