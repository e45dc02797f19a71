"""Damages texts as an editor, a merge, a disk or an attacker does, by a generator of random numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

_TOKEN = re.compile(r"[\w./$]+|\s+|.", re.DOTALL)
SCALARS = (
    *(
        "no",
        "yes",
        "on",
        "off",
        "~",
        "null",
        "true",
        "FALSE",
        "-",
        "--- a",
        "...",
        "? a",
        ": a",
        "<<",
        "=",
        "%YAML 1.1",
    ),
    *(
        "1:30",
        "010",
        "0x1F",
        "0o7",
        "1_000",
        "+1",
        "-0",
        "1e999",
        "-1e999",
        ".inf",
        "-.inf",
        ".nan",
        "1e-999",
        "1.",
        ".",
    ),
    *(
        "2020-13-45",
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "99999999999999999999",
        "9" * 5000,
        "-" + "9" * 21,
        "1" * 400,
    ),
    *("!!int x", "!!bool maybe", "!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!!python/object:os.system x", "! x"),
    *("&a [*a]", "*a", "&a {<<: *a}", "{<<: [1]}", "{<<: {a: 1}, a: 2}", "[]", "{}", "[[]]", "{a: {b: [c]}}", '""'),
    *(
        '"\\0"',
        '"\\e[31m"',
        '"\\ud800"',
        '"\\U00110000"',
        '"a\\nb"',
        "\x1b[2J",
        "\x07",
        "\u202e",
        "\ufeff",
        "\ud7ff",
        "é" * 90,
    ),
    *(
        ".",
        "..",
        "../..",
        "a/b",
        "/",
        "//",
        "nul",
        "con.txt",
        "a" * 300,
        "a/" * 3000,
        "x" * 5000,
        "~root",
        "hf://a",
        "-x",
    ),
    *(
        "[" * 900,
        "{a: " * 50,
        "- " * 60,
        "[" * 20 + "]" * 20,
        "'",
        '"',
        "|",
        ">",
        "\t",
        "\r\n",
        "\x85",
        "\u2028",
        "#",
        "@",
        "`",
    ),
    *(
        "/dev/zero",
        "/dev/stdin",
        "$L:[0:99999999]$H:[0:12]$[0:64]",
        "$L:1$H:[9:1]$[5:5]",
        "[0, 1000000000]",
        "[-1, 4]",
        "[1.5, 2]",
    ),
)
"""What may stand in the place of anything."""


def damaged(text: str, others: Sequence[str], rng: random.Random) -> bytes:
    """Returns a text after one to four damages; `others` lend parts of theirs."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice(_KINDS)(text, others, rng)[:40_000]
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        content = _bytes(content, rng)
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed) if rng.random() < 0.8 else content.decode("utf-8", "replace").encode("utf-16")


def _place(text: str, rng: random.Random) -> int:
    return rng.randint(0, len(text))


def _span(text: str, rng: random.Random) -> tuple[int, int]:
    start = _place(text, rng)
    return start, min(len(text), start + rng.choice((1, 3, 20, 200)))


def _cut(text: str, _: Sequence[str], rng: random.Random) -> str:
    return text[: _place(text, rng)]


def _drop(text: str, _: Sequence[str], rng: random.Random) -> str:
    start, end = _span(text, rng)
    return text[:start] + text[end:]


def _repeat(text: str, _: Sequence[str], rng: random.Random) -> str:
    start, end = _span(text, rng)
    return text[:end] + text[start:end] * rng.choice((1, 2, 50)) + text[end:]


def _repeat_line(text: str, _: Sequence[str], rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    return "".join(lines[:at] + lines[at : at + 1] * rng.choice((2, 3, 200)) + lines[at + 1 :])


def _flip(text: str, _: Sequence[str], rng: random.Random) -> str:
    at = _place(text, rng)
    return text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD800), 0x1F600))) + text[at + 1 :]


def _insert(text: str, _: Sequence[str], rng: random.Random) -> str:
    at = _place(text, rng)
    return text[:at] + rng.choice(SCALARS) + text[at:]


def _replace_token(text: str, others: Sequence[str], rng: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    lent = _TOKEN.findall(rng.choice(others))
    tokens[rng.randrange(len(tokens))] = rng.choice(SCALARS if rng.random() < 0.6 or not lent else lent)
    return "".join(tokens)


def _swap_tokens(text: str, _: Sequence[str], rng: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    one, two = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    tokens[one], tokens[two] = tokens[two], tokens[one]
    return "".join(tokens)


def _splice(text: str, others: Sequence[str], rng: random.Random) -> str:
    other = rng.choice(others)
    return text[: _place(text, rng)] + other[_place(other, rng) :]


def _nest(text: str, _: Sequence[str], rng: random.Random) -> str:
    start, end = _span(text, rng)
    before, after = rng.choice((("[", "]"), ("{a: ", "}"), ("[[", "]]"), ('{"a": ', "}"), ("- ", "")))
    times = rng.choice((1, 5, 39, 45, 1000))
    return text[:start] + before * times + text[start:end] + after * times + text[end:]


def _indent(text: str, _: Sequence[str], rng: random.Random) -> str:
    return text.replace("\n", rng.choice(("\n ", "\n\t", "\r\n", "\r", "\n\n", "")), rng.randint(1, 3))


_KINDS: tuple[Callable[[str, Sequence[str], random.Random], str], ...] = (
    *(_cut, _drop, _repeat, _repeat_line, _flip, _insert, _insert),
    *(_replace_token, _replace_token, _replace_token, _replace_token, _swap_tokens, _splice, _nest, _indent),
)
