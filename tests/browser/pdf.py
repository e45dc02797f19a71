"""The words of a PDF that Chromium printed, page by page."""

from __future__ import annotations

import re
import unicodedata
import zlib


def pages(pdf: bytes) -> list[str]:
    """Returns the characters of each page in the order in which they are drawn."""
    objects = {int(number): body for number, body in re.findall(rb"(?<=\n)(\d+) 0 obj(.*?)endobj", pdf, re.S)}
    characters = {
        number: _characters(_stream(objects[int(found[1])]))
        for number, body in objects.items()
        if (found := re.search(rb"/ToUnicode (\d+) 0 R", body))
    }
    result: list[str] = []
    for body in objects.values():
        if not re.search(rb"/Type /Page\b", body):
            continue
        fonts = {name: int(number) for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", body)}
        content = re.search(rb"/Contents (\d+) 0 R", body)
        assert content is not None
        drawn = re.findall(rb"/(F\d+) \S+ Tf|<([0-9A-Fa-f]+)> Tj", _stream(objects[int(content[1])]))
        text, font = "", 0
        for name, codes in drawn:
            if name:
                font = fonts[name]
            else:
                text += "".join(
                    characters[font].get(int(codes[place : place + 4], 16), "?") for place in range(0, len(codes), 4)
                )
        result.append(unicodedata.normalize("NFKC", text))  # ligatures are one character
    return result


def _stream(body: bytes) -> bytes:
    found = re.search(rb"stream\r?\n(.*?)\r?\nendstream", body, re.S)
    assert found is not None
    return zlib.decompress(found[1]) if b"FlateDecode" in body else found[1]


def _characters(cmap: bytes) -> dict[int, str]:
    """The character of each code of a font."""
    table: dict[int, str] = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", cmap, re.S):
        for code, character in re.findall(rb"<(\w+)> <(\w+)>", block):
            table[int(code, 16)] = bytes.fromhex(character.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", cmap, re.S):
        for low, high, character in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for code in range(int(low, 16), int(high, 16) + 1):
                table[code] = chr(int(character, 16) + code - int(low, 16))
    return table
