"""Runs by several processes, as torchrun and accelerate launch start them.

All processes train; the main one does everything else. What it does alone, or before the others, it does in
`main_first`, so that its failure ends all of them. Processes communicate through a store. Waiting there has no limit
of its own, since reading data may take hours. A pulse shows if another process has stopped; patience with it is
limited. The process group is for training alone, and every call of it has a limit.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.launch import Launch, launched, several

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from iit_toolkit.runs.pulse import Pulse

_JOINING = timedelta(minutes=5)
_PATIENCE = timedelta(minutes=10)  # until the config's `ddp_timeout` is known
_LEAST_PATIENCE = 30.0  # seconds: beats come every two, and later if a machine is busy
_FAREWELL = 10.0
_LOST = ("Timed out", "timeout", "closed by peer", "reset by peer", "Broken pipe", "NCCL", "gloo", "Connection refused")


@dataclass
class _Joined:
    """What joins this process to the others."""

    launch: Launch
    store: Store
    pulse: Pulse
    meetings: int = 0


_joined: _Joined | None = None
_times = 0  # how often processes were joined: what an earlier time left in the store must not be read


def is_main() -> bool:
    """Whether this is the main process, as an only one is.

    Raises:
        UserError: As for `launched`.
    """
    return launched().rank == 0


def refuse_several(verb: str) -> None:
    """Let only one process continue, with work that must not be done twice in one folder.

    Raises:
        UserError: If there are several, on the main one.
        SystemExit: On the others.
    """
    if not several():
        return
    if not is_main():
        raise SystemExit(0)
    raise UserError(
        f"{verb} is done by one process: start it without torchrun, or unset RANK, LOCAL_RANK and WORLD_SIZE"
    )


@contextmanager
def main_first() -> Generator[None]:
    """Let the main process go through the block, and then the others.

    If it fails there, the others end without a word and with exit code 0: the main process says what is wrong. With
    one process, this does nothing.

    Raises:
        UserError: If the environment does not say how many processes run, or the others do not come.
        SystemExit: On the others, if the main process failed.
    """
    joined = _join()
    if joined is None:
        yield
        return
    joined.meetings += 1
    key = f"told/{joined.meetings}"
    if joined.launch.rank:
        _wait(joined.store, [key])
        with _error_if_gone():
            well = joined.store.get(key) == b"well"
        if not well:
            destroy_group()
            raise SystemExit(0)
        yield
        return
    try:
        yield
    except BaseException as error:
        with suppress(RuntimeError):  # the store is gone: the error that is raised here says what is wrong
            joined.store.set(key, "badly")
        _let_go(error)
        destroy_group()
        raise
    with _error_if_gone():
        joined.store.set(key, "well")


def meet() -> None:
    """Wait until all processes have come here, however long that takes them."""
    if (joined := _join()) is None:
        return
    joined.meetings += 1
    keys = [f"here/{joined.meetings}/{rank}" for rank in range(joined.launch.count)]
    with _error_if_gone():
        joined.store.set(keys[joined.launch.rank], "here")
    _wait(joined.store, keys)


def set_patience(seconds: float) -> None:
    """Set after how many seconds without a sign of life another process counts as stopped, 30 at least."""
    if _joined is not None:
        _joined.pulse.patience = max(seconds, _LEAST_PATIENCE)


@contextmanager
def told_if_lost() -> Generator[None]:
    """Say in one line if a call that several processes make together fails because one of them is gone.

    Raises:
        UserError: In place of the error of torch.
    """
    try:
        yield
    except RuntimeError as error:
        if _joined is None or isinstance(error, UserError) or not any(sign in str(error) for sign in _LOST):
            raise
        raise UserError(
            f"another process ended or did not answer in time (training.ddp_timeout); its own messages say more, if "
            f"any ({one_line(error):.80}); checkpoints are kept, `run --resume` goes on from them"
        ) from None


@contextmanager
def parting() -> Generator[None]:
    """Join the other processes, and part from them at the end of the block, however it ends.

    Raises:
        UserError: As for `main_first`.
    """
    _join()
    try:
        yield
    except BaseException as error:
        if _joined is not None:
            _let_go(error)
        raise
    finally:
        destroy_group()


def destroy_group() -> None:
    """Part from the other processes, if they are joined.

    The threads of a group let go of tensors some time after a call is done. If Python ends meanwhile, they abort the
    process. They end with the group, and the group ends with what holds it: wrapped models, in cycles of references.
    """
    global _joined
    import torch

    joined, _joined = _joined, None
    if joined is not None:
        joined.pulse.stop()
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
        gc.collect()
    if joined is not None:
        _bid_farewell(joined)


def _join() -> _Joined | None:
    """Join the other processes, the first time; None if there is only one."""
    global _joined, _times
    launch = launched()
    if launch.count == 1:
        return None
    if _joined is None:
        import torch
        import torch._dynamo  # pyright: ignore[reportUnusedImport] - imported later, by DDP, it would keep the group
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        from iit_toolkit.runs.pulse import Pulse

        try:
            base, _, _ = next(rendezvous("env://", timeout=_JOINING))
            _times += 1
            again: Store = base.clone()  # pyright: ignore[reportAttributeAccessIssue]
            store, others = (PrefixStore(f"iit_toolkit/{_times}", one) for one in (base, again))
            pulse = Pulse(others, launch.rank, launch.count, _PATIENCE.total_seconds())
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group(
                    _backends(), store=PrefixStore("group", store), rank=launch.rank, world_size=launch.count,
                    timeout=_JOINING,
                )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"process {launch.rank} of {launch.count} could not join the others ({one_line(error):.100}); if one "
                "was meant, unset RANK, LOCAL_RANK and WORLD_SIZE"
            ) from None
        if launch.rank:
            logging.getLogger("iit_toolkit").setLevel(logging.ERROR)  # the main process says the same
        atexit.register(destroy_group)  # for what fails outside `parting`
        pulse.start()
        _joined = _Joined(launch, store, pulse)
    return _joined


def _backends() -> str:
    """Return what carries tensors between processes: gloo on CPUs, and what goes with the accelerator, if any."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return "gloo"
    return f"cpu:gloo,{device.type}:{torch.distributed.get_default_backend_for_device(device)}"


def _wait(store: Store, keys: list[str]) -> None:
    """Wait for keys, so that a signal is heard; the pulse notices a process that has stopped."""
    with _error_if_gone():
        while not store.check(keys):
            time.sleep(0.05)


@contextmanager
def _error_if_gone() -> Generator[None]:
    """Say in one line if the store is gone, with the process that holds it."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"the main process or the launcher is gone ({one_line(error):.100}); its own messages say why"
        ) from None


def _let_go(error: BaseException) -> None:
    """Free what the frames of an error hold: a wrapped model among them would keep the process group."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__


def _bid_farewell(joined: _Joined) -> None:
    """Keep the store until the others no longer need it, if this process holds it."""
    try:
        joined.store.set(f"parted/{joined.launch.rank}", "parted")
        if joined.launch.rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            return
        until = time.monotonic() + _FAREWELL
        keys = [f"parted/{rank}" for rank in range(1, joined.launch.count)]
        while not joined.store.check(keys) and time.monotonic() < until:
            time.sleep(0.05)
    except RuntimeError:  # the one that holds it is gone
        return
