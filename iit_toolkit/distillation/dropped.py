"""Blocks that a model leaves out at random while it is trained."""

from __future__ import annotations

from transformers import PreTrainedConfig

from iit_toolkit.errors import UserError


def refuse_dropped_blocks(config: PreTrainedConfig, what: str) -> None:
    """Refuse a student that leaves blocks out in some steps: nothing could be swapped in them then.

    Raises:
        UserError: Naming the entry of its configuration.
    """
    for name, share in vars(config).items():
        if name.endswith("layerdrop") and isinstance(share, int | float) and share > 0:
            raise UserError(
                f"{what}: {name} in the student's config.json is {share:g}, so training would leave blocks out at "
                f"random, and with them what is swapped; set {name} to 0 in the config.json it comes from"
            )
