"""One process is the main one, and goes through everything as if nothing were around it.

What several processes do is tested in `tests/distillation/test_processes.py`, and with whole runs in
`tests/pipeline/test_paper_setting.py`.
"""

from __future__ import annotations

import pytest
import torch

from iit_toolkit.cli import main
from iit_toolkit.errors import UserError
from iit_toolkit.runs import processes

SECOND = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_one_process_joins_nothing_and_fails_as_ever() -> None:
    with processes.parting(), processes.main_first():
        processes.meet()
        assert processes.is_main() and not torch.distributed.is_initialized()
    with pytest.raises(UserError, match="wrong"), processes.parting(), processes.main_first():
        raise UserError("wrong")
    with pytest.raises(RuntimeError, match="Connection closed by peer"), processes.told_if_lost():
        raise RuntimeError("Connection closed by peer")  # no process of ours


def test_the_first_rank_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    assert not processes.is_main()
    monkeypatch.setenv("RANK", "0")
    assert processes.is_main()


@pytest.mark.parametrize("verb", ["verify", "search", "report", "compare", "export", "finetune", "suite"])
def test_what_does_not_train_is_done_by_one_process(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    codes: list[int | str | None] = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as ended:
            main([verb, "run" if verb == "suite" else "quickstart"])
        codes.append(ended.value.code)
    assert codes == [2, 0]
    assert capsys.readouterr().err.startswith(f"error: {verb} is done by one process: start it without torchrun")


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_rank_left_over_is_refused_before_anything_is_done(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        main([verb, "no such config"])
    assert ended.value.code == 2
    assert "RANK is 1, but WORLD_SIZE is not set" in capsys.readouterr().err
