"""Alignment files that a run's config names, read into it."""

from __future__ import annotations

from typing import TypeVar

from iit_toolkit.alignment import alignment_from_file
from iit_toolkit.config.run_config import ArmConfig, RunConfig, VerificationConfig

_Section = TypeVar("_Section", ArmConfig, VerificationConfig)


def with_alignments_read(config: RunConfig) -> RunConfig:
    """Return the config with the content of the alignment files it names: a changed file makes another config.

    Raises:
        UserError: If a file is not there, or holds no alignment.
    """
    arms = {name: _with_alignment_read(arm) for name, arm in config.arms.items()}
    return config.model_copy(update={"arms": arms, "verification": _with_alignment_read(config.verification)})


def _with_alignment_read(section: _Section) -> _Section:
    given = section.alignment
    read = alignment_from_file(given) if isinstance(given, str) else None
    return section if read is None else section.model_copy(update={"alignment": read.to_dict()})
