"""Text that can be shown anywhere: on a terminal, in a page, in XML."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return text with U+FFFD in place of whatever is not a readable character.

    Controls move the cursor of a terminal or end an XML document. Marks of writing direction and spaces without width
    let a text read as another. Halves of surrogates can't be written at all. Tabs and line breaks stay.
    """
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)
