"""The verbs that work on both kinds of configs: on models of transformers, and on programs and other networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from iit_toolkit.config.loading import AnyRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import Check
from iit_toolkit.pipeline.check import validate as validate_texts
from iit_toolkit.pipeline.explanation import explain as explain_texts
from iit_toolkit.pipeline.networks.check import validate_networks
from iit_toolkit.pipeline.networks.explanation import explain_networks
from iit_toolkit.pipeline.networks.run import run_networks, train_networks, verify_networks
from iit_toolkit.pipeline.networks.search import search_networks
from iit_toolkit.pipeline.run import run as run_texts
from iit_toolkit.pipeline.run import train as train_texts
from iit_toolkit.pipeline.run import verify as verify_texts
from iit_toolkit.pipeline.search import search as search_texts


def validate(config: AnyRunConfig) -> list[Check]:
    """Check a config on its live models and data; see `iit_toolkit.interchange.certify`."""
    return validate_texts(config) if isinstance(config, RunConfig) else validate_networks(config)


def explain(config: AnyRunConfig) -> str:
    """Say in words, before any training, what a config's models, alignments and steps are."""
    return explain_texts(config) if isinstance(config, RunConfig) else explain_networks(config)


def run(config: AnyRunConfig, output: str | Path, *, resume: bool = False) -> Path:
    """Train every arm, verify every student against the teacher, and write results and report.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        resume: Continue in the folder of an earlier run of the same config, if it is one.

    Returns:
        The run folder.

    Raises:
        UserError: If the config does not hold on the live models and data, or the folder is taken. If a run to resume
            is another config's, or another process is at work on it.
    """
    if isinstance(config, RunConfig):
        return run_texts(config, output, resume=resume)
    return run_networks(config, output, resume=resume)


def train(config: AnyRunConfig, output: str | Path, arm: str, *, resume: bool = False) -> Path:
    """Train one arm, and write its student to the run folder.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        arm: The arm.
        resume: Continue in the folder of an earlier call or run of the same config, if it is one.

    Raises:
        UserError: As for `run`.
    """
    if isinstance(config, RunConfig):
        return train_texts(config, output, arm, resume=resume)
    return train_networks(config, output, arm, resume=resume)


def verify(config: AnyRunConfig, student: str, alignment: str, output: str | Path, name: str = "student") -> Path:
    """Verify a finished student, from this toolkit or not, against the config's teacher.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student; of a network, the folder of its weights.
        alignment: An alignment file or a preset.
        output: The run folder; new or empty.
        name: What results and outcomes call the student.

    Raises:
        UserError: If the alignment does not hold on the live models, or the folder is taken.
    """
    if isinstance(config, RunConfig):
        return verify_texts(config, student, alignment, output, name)
    return verify_networks(config, student, alignment, output, name)


def search(
    config: AnyRunConfig,
    student: str,
    output: str | Path,
    *,
    parts: Iterable[int] | None = None,
    modules: Sequence[str] = (),
) -> Path:
    """Search for an alignment of a finished student: of layers, or of the variables of a program or network.

    It is chosen on one half of the held-out data and verified on the other, by the measure of the config's
    verification.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student; of a network, the folder of its weights.
        output: The folder to write `search.json`, `alignment.yaml`, `outcomes.parquet` and figures to; new or empty.
        parts: Of a network: into how many equal ranges of neurons the output of a module is parted; 1, 2 and 4 by
            default.
        modules: Of a network: the paths of the modules that are tried; all by default.

    Raises:
        UserError: If student or data don't fit, there is too little data, nothing can be aligned, or the folder is
            taken. If parts or modules are given for a model of transformers.
    """
    if not isinstance(config, RunConfig):
        given = {} if parts is None else {"parts": parts}
        return search_networks(config, student, output, modules=modules, **given)
    if parts is not None or modules:
        raise UserError(
            "--parts and --module are for configs of programs and networks; a search in models of transformers tries "
            "whole layers, so leave them out"
        )
    return search_texts(config, student, output)
