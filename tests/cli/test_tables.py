"""Tables that are wider than the terminal are split."""

from __future__ import annotations

from itertools import chain

import pytest

from iit_toolkit.cli.tables import in_pieces


@pytest.mark.parametrize(("room", "pieces"), [(100, 1), (36, 2), (12, 6), (3, 6), (-5, 6)])
def test_columns_are_split_into_as_many_tables_as_are_needed(room: int, pieces: int) -> None:
    found = in_pieces("abcdef", room, 12)
    assert len(found) == pieces and list(chain(*found)) == list("abcdef")
    assert max(map(len, found)) * 12 <= max(room, 12)


def test_no_columns_need_no_table() -> None:
    assert in_pieces([], 60, 12) == []
