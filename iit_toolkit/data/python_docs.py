"""English documentation text that every CPython installation carries.

The documents are the help topics of the interpreter and the docstrings of the pure-Python standard
library. Nothing is downloaded, and no documented module is imported: its source is only parsed.
"""

import ast
import re
import sysconfig
import zlib
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_MINIMUM_CHARACTERS = 200
_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "__phello__",
        "dist-packages",
        "ensurepip",
        "idle_test",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_WITH_STATEMENTS = ("body", "handlers", "orelse", "finalbody", "cases")
_DIRECTIVE = re.compile(r"^\.\.(\s|$)|^:\w+(\s[^:]*)?:")
_ROLE = re.compile(r":(?:\w+:)*\w+:`([^`]*)`")
_CODE = re.compile(
    r"^(?:[$#%@|+]|\.\.\. )"  # prompts, comments, decorators
    r"|^(?:def|class|import|from|return|print|raise|elif|except|assert)\b.*[:)\w]$"
    r"|^(?:for|if|while|with|try|else)\b[^.]*:$"
    r"|^[\w.\[\], ]+ (?:[-+*/|&]?=|->|::=) "  # assignments, grammar productions
    r"|^[\w.]+\(.*\)(?:\s*->.*)?:?$"  # calls, signatures
    r"|^[\w.\"']+: [\w.\"']+,?$"
)


@cache
def python_documentation() -> tuple[tuple[str, str], ...]:
    """Read the documentation of the running Python, once in a process.

    Returns:
        (name, text) per document, sorted by name: `topics/<topic>` for a help topic and
        `library/<module>` for all docstrings of a standard library module. The text is plain
        English on one line, without the paragraphs that an earlier document holds; documents
        shorter than 200 characters are left out.
    """
    documents: list[tuple[str, str]] = []
    seen: set[str] = set()  # help topics repeat one another: each paragraph is kept once, so that
    for name, text in sorted((*_topics(), *_modules())):  # no split holds text of another
        paragraphs = [prose for prose in _paragraphs(text) if prose not in seen]
        seen.update(paragraphs)
        cleaned = " ".join(dict.fromkeys(paragraphs))
        if len(cleaned) >= _MINIMUM_CHARACTERS:
            documents.append((name, cleaned))
    return tuple(documents)


def python_documentation_splits() -> dict[str, list[str]]:
    """Split the documentation into train, validation and test (about 80/10/10) by document.

    The split of a document follows from a checksum of its name, so it is the same for every Python
    version that has the document.

    Returns:
        The texts of the documents under the keys `train`, `validation` and `test`.
    """
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name, text in python_documentation():
        splits[_split_of(name)].append(text)
    return splits


def _split_of(name: str) -> str:
    remainder = zlib.crc32(name.encode()) % 10
    return {8: "validation", 9: "test"}.get(remainder, "train")


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics  # a large dictionary: read only when it is asked for

    for name, text in topics.items():
        yield f"topics/{name}", text


def _modules() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts[:-1]):
            module = ".".join(parts).removesuffix(".__init__")
            yield f"library/{module}", "\n\n".join(_docstrings(path))


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a source file that is no valid Python, such as a template
        return
    seen: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, _DOCUMENTED):
            docstring = ast.get_docstring(node)
            if docstring and docstring not in seen:
                seen.add(docstring)
                yield docstring


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a module and its statements in the order of `ast.walk`, which would look into every expression."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        for field in _WITH_STATEMENTS:
            waiting.extend(getattr(node, field, ()))


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the prose of each paragraph of a reStructuredText or plain-text document."""
    for paragraph in re.split(r"\n\s*\n", _ROLE.sub(r"\1", text)):
        if prose := _prose(paragraph):
            yield prose


def _prose(paragraph: str) -> str:
    kept: list[str] = []
    for line in paragraph.splitlines():
        stripped = line.strip()
        if stripped.startswith(">>>"):
            break  # a doctest and its output last until the end of the paragraph
        letters = sum(map(str.isalpha, stripped)) + stripped.count(" ")
        if letters < 0.75 * len(stripped) or _DIRECTIVE.match(stripped) or _CODE.match(stripped):
            continue
        kept.append(stripped)
    prose = re.sub(r"[*=~^-]{2,}|_{3,}|`+|\*+(?=\w)|(?<=\w)\*+", " ", " ".join(kept))
    prose = re.sub(r"\s+([,;:)]|\.(?=\s|$))", r"\1", " ".join(prose.split()))
    return prose if len(prose.split()) > 2 else ""
