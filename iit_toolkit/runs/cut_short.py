"""Says in one line what cut a training short, so that nothing half-trained is taken for a finished model."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from transformers import TrainerState

from iit_toolkit.errors import UserError, one_line

_WORKER_ENDED = re.compile(r"DataLoader worker \(pid")


def refuse_cut_short(state: TrainerState, where: str, remedy: str) -> None:
    """Refuse a training that ended before its last step, whatever ended it: a callback, a signal, rows that ran out.

    Args:
        state: The trainer's, after its training.
        where: What messages call the training.
        remedy: What to do then.

    Raises:
        UserError: If it did.
    """
    if state.global_step < state.max_steps:
        raise UserError(f"{where}: training ended after step {state.global_step} of {state.max_steps}; {remedy}")


@contextmanager
def told_if_worker_ended(where: str, workers: int, remedy: str) -> Generator[None]:
    """Say in one line if a process that reads rows for the training ends in the block.

    Args:
        where: What messages call the training.
        workers: How many such processes there are; without any, nothing is said.
        remedy: What holds for the training then.

    Raises:
        UserError: In place of the error of the system or of torch.
    """
    try:
        yield
    except (ConnectionError, EOFError, RuntimeError) as error:
        lost = not isinstance(error, RuntimeError) or _WORKER_ENDED.search(str(error)) is not None
        if not workers or not lost:
            raise
        raise UserError(
            f"{where}: a worker that reads rows ended, for want of memory perhaps ({one_line(error):.80}); lower its "
            f"dataloader_num_workers ({workers}); {remedy}"
        ) from None
