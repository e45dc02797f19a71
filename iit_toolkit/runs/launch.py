"""What the environment says about the running processes: read once, checked, and the same for everything here.

torchrun and `accelerate launch` set `RANK`, `LOCAL_RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`. Other
launchers, and shells below one, leave some of them. accelerate reads them too, each for itself, so what does not add up
is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

from iit_toolkit.errors import UserError

_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # accelerate starts groups from these, on CPUs


@dataclass(frozen=True)
class Launch:
    """The number of this process, and how many there are.

    Attributes:
        rank: Number of the process, from 0; the main one is 0.
        count: How many there are.
        local_rank: Number of the process on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0


def launched() -> Launch:
    """Read which process this is, of how many.

    Raises:
        UserError: If the environment's variables do not add up, as those left by another launcher may.
    """
    given = {name: _number(name) for name in (*_NUMBERS, *_MPI_SIZES) if name in os.environ}
    if given.get("LOCAL_RANK") == -1:  # -1 says that there is no launcher
        del given["LOCAL_RANK"]
    for name, number in given.items():
        if number < (name not in ("RANK", "LOCAL_RANK")):
            _refuse(f"{name} is {number}")
    rank, count, local_rank = (given.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    several_join = (count or 1) > 1
    if not several_join:
        for name in _MPI_SIZES:
            if given.get(name, 1) > 1:
                _refuse(f"{name} is {given[name]}, and RANK, LOCAL_RANK and WORLD_SIZE do not say the same")
    if count is None and (rank or local_rank is not None):
        _refuse(f"{'RANK' if rank else 'LOCAL_RANK'} is {rank or local_rank}, but WORLD_SIZE is not set")
    if rank is not None and count is not None and rank >= count:
        _refuse(f"RANK is {rank}, but WORLD_SIZE is {count}")
    if local_rank is not None and count is not None and local_rank >= count:
        _refuse(f"LOCAL_RANK is {local_rank}, but WORLD_SIZE is {count}")
    if several_join:
        for name in (*_NUMBERS, "MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                _refuse(f"WORLD_SIZE is {count}, but {name} is not set")
        if not 0 < _number("MASTER_PORT") < 2**16:
            _refuse(f"MASTER_PORT is {os.environ['MASTER_PORT']}")
    return Launch(rank or 0, count or 1, local_rank or 0)


def forget_a_launcher_of_one() -> None:
    """Remove from the environment what says that there is one process: accelerate would start a group for it.

    The address at which processes meet may be gone, and accelerate would wait for it.

    Raises:
        UserError: As for `launched`.
    """
    if launched().count == 1:
        for name in _NUMBERS:
            os.environ.pop(name, None)


def several() -> bool:
    """Return whether the environment speaks of several processes, without checking all that it says."""
    return os.environ.get("WORLD_SIZE", "1").strip() not in ("", "0", "1")


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()) or len(text) > 9:
        _refuse(f"{name} is {text!r:.40}, which is no whole number")
    return int(text)


def _refuse(found: str) -> NoReturn:
    raise UserError(
        f"the environment does not say how many processes run: {found}; for one process unset RANK, LOCAL_RANK, "
        "WORLD_SIZE and those of MPI, several start with torchrun or accelerate launch"
    )
