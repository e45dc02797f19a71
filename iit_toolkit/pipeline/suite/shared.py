"""What all runs of a suite share, whatever their seeds: the teacher and, of networks, the rows."""

from __future__ import annotations

from collections.abc import Sequence

from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.inputs import TEACHER_WEIGHTS, recorded_inputs
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.networks.training import refuse_trained_otherwise
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, pieces
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.provenance import fingerprint_of_weights


def require_shared_inputs(config: SuiteConfig) -> None:
    """Check that networks of two seeds have one teacher and the same rows, since seeds are compared.

    The user's functions make both, and torch's seed is that of the run when they are called.

    Args:
        config: A suite of programs or other networks.

    Raises:
        UserError: If teacher or rows depend on the seed.
    """
    first, *others = {piece.seed: piece for piece in pieces(config)}.values()
    if not others:
        return
    inputs, again = (_of_networks(config, one).shared_inputs() for one in (first, others[0]))
    for name in inputs:
        if inputs[name] != again[name]:
            remedy = (
                "give teacher.weights, or set a seed in its function"
                if name == "teacher"
                else "draw them with a torch.Generator of their own"
            )
            raise UserError(
                f"seeds {first.seed} and {others[0].seed} do not have the same {name}, but seeds of a suite are "
                f"compared; {remedy}"
            )


def refuse_other_inputs(config: SuiteConfig, folder: SuiteFolder, begun: Sequence[Piece]) -> None:
    """Refuse to go on if a run was begun with another teacher, or on other rows of networks, than there are now.

    Args:
        config: The suite.
        folder: Its folder.
        begun: What has begun of it.

    Raises:
        UserError: If one was.
    """
    runs = [piece for piece in begun if piece.stage == "run"]
    if isinstance(config.run, RunConfig):
        _refuse_other_teacher(config.run, folder, runs)
    elif runs:
        inputs = _of_networks(config, runs[0]).shared_inputs()
        for piece in runs:
            refuse_trained_otherwise(RunFolder(folder.home(piece)), piece.arm, inputs)


def _refuse_other_teacher(config: RunConfig, folder: SuiteFolder, runs: Sequence[Piece]) -> None:
    recorded = {piece: recorded_inputs(RunFolder(folder.home(piece))) for piece in runs}
    weights = {piece: one[TEACHER_WEIGHTS] for piece, one in recorded.items() if one and TEACHER_WEIGHTS in one}
    if not weights:
        return
    now = fingerprint_of_weights(Prepared(config).teacher.state_dict())
    for piece, before in weights.items():
        if before != now:
            raise UserError(
                f"{folder.home(piece)} was begun with another teacher: the weights of {config.teacher} changed since; "
                "restore them, or choose another --output"
            )


def _of_networks(config: SuiteConfig, piece: Piece) -> PreparedNetworks:
    assert piece.seed is not None
    run = config.run_config(piece.arm, piece.seed)
    assert isinstance(run, NetworkRunConfig)
    return PreparedNetworks(run)
