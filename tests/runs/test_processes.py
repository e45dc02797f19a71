"""One process is the main one, and goes through everything as if nothing were around it.

What several processes do is tested in `tests/distillation/test_processes.py`, and with whole runs in
`tests/pipeline/test_paper_setting.py`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from iit_toolkit.cli import main
from iit_toolkit.errors import UserError
from iit_toolkit.runs import processes
from iit_toolkit.runs.launch import Launch

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


class Gone:
    """A store whose process is gone, after it has told what is in `left`."""

    def __init__(self, *left: str) -> None:
        self._left = left

    def check(self, keys: list[str]) -> bool:
        if set(keys) <= set(self._left):
            return True
        raise RuntimeError("Connection reset by peer")

    def get(self, _: str) -> bytes:
        raise RuntimeError("Connection reset by peer")

    def set(self, *_: str) -> None:
        raise RuntimeError("Connection reset by peer")


def joined(monkeypatch: pytest.MonkeyPatch, rank: int, store: Gone) -> SimpleNamespace:
    for name, value in {**SECOND, "RANK": str(rank)}.items():
        monkeypatch.setenv(name, value)
    pulse = SimpleNamespace(stop=lambda: None, patience=600.0)
    among: Any = processes._Joined(Launch(rank, 2, rank), store, pulse)  # type: ignore[arg-type]
    monkeypatch.setattr(processes, "_joined", among)
    return pulse


@pytest.mark.parametrize(("rank", "left"), [(0, ()), (1, ()), (1, ("told/1",))])
def test_a_store_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch, rank: int, left: tuple[str, ...]) -> None:
    joined(monkeypatch, rank, Gone(*left))
    with pytest.raises(UserError, match="the main process or the launcher is gone"), processes.main_first():
        pass
    joined(monkeypatch, rank, Gone(*left))
    with pytest.raises(UserError, match="the main process or the launcher is gone"):
        processes.meet()


def test_a_store_that_is_gone_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    joined(monkeypatch, 0, Gone())
    with pytest.raises(UserError, match="the real cause"), processes.main_first():
        raise UserError("the real cause")


@pytest.mark.parametrize(("given", "patience"), [(1, 30), (4, 30), (600, 600)])
def test_patience_is_longer_than_beats_take(monkeypatch: pytest.MonkeyPatch, given: int, patience: int) -> None:
    pulse = joined(monkeypatch, 0, Gone())
    processes.set_patience(given)
    assert pulse.patience == patience


@pytest.mark.parametrize("verb", ["verify", "trace", "search", "report", "compare", "export", "finetune", "suite"])
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
