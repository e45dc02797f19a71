"""The drawings: the committed files are those that the script draws, and badges say what is true."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from analysis.drawings import IMAGES, ROOT, badges, drawings


@pytest.mark.parametrize("name", drawings())
def test_a_file_is_what_is_drawn_and_takes_nothing_from_elsewhere(name: str) -> None:
    content = drawings()[name]
    assert (IMAGES / name).read_text(encoding="utf-8") == content
    root = ElementTree.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)|href|url\(|@import", content) == []


def test_badges_say_what_is_true() -> None:
    said = badges()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8") and said["licence"] == "Apache-2.0"
    assert said["python"] == "3.10+"
    assert said["pyvene"] in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in said if f"docs/images/badge-{name}.svg" not in readme] == []
