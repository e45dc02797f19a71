"""One process is the main one, and goes through everything as if nothing were around it.

What several processes do is tested with whole runs, in `tests/pipeline/test_paper_setting.py`.
"""

from __future__ import annotations

import pytest
import torch

from iit_toolkit.errors import UserError
from iit_toolkit.runs import processes


def test_one_process_joins_nothing_and_fails_as_ever() -> None:
    with processes.parting(), processes.main_first():
        assert processes.is_main() and not torch.distributed.is_initialized()
    with pytest.raises(UserError, match="wrong"), processes.parting(), processes.main_first():
        raise UserError("wrong")


def test_the_first_rank_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not processes.is_main()
    monkeypatch.setenv("RANK", "0")
    assert processes.is_main()
