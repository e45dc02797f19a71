"""Works through the pieces of a suite, with any number of processes side by side."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.studies.study import TEACHER
from iit_toolkit.config.loading import dump_config
from iit_toolkit.downstream.finetune import finetune
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.check import require_sound
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, alike, pieces
from iit_toolkit.pipeline.suite.shared import refuse_other_inputs
from iit_toolkit.pipeline.verbs import run
from iit_toolkit.runs.folder import AtWorkError, RunFolder, clear_left_overs, is_free, locked, write_atomically
from iit_toolkit.runs.progress import PIECE, duration, in_piece, phase

_LOG = logging.getLogger(__name__)
_ENDING = 40.0  # seconds that a launcher has to end; torchrun waits 30 before it kills


def work(
    config: SuiteConfig,
    output: str | Path,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    minutes: float | None = None,
    launcher: Sequence[str] = (),
) -> list[Piece]:
    """Do the pieces of a suite that are not done.

    A call that was killed can be repeated. It skips pieces that are done. A training continues from its last
    checkpoint, a training of networks from its start, a fine-tuning with the task and seed that it was at. Several
    processes may work on one folder; one of them does each piece.

    Args:
        config: The suite.
        output: Its folder: new, or that of earlier calls.
        arms: Only pieces of these are done, `teacher` for its fine-tuning; all if empty.
        seeds: Only pieces of these are done, and the teacher's fine-tuning, which has none; all if empty.
        minutes: No piece is begun later than this many minutes after the call.
        launcher: A command that starts several processes, such as `torchrun --nproc_per_node 2`; runs are then made
            by it, and fine-tuning by this process.

    Returns:
        The pieces that are not done.

    Raises:
        UserError: As `pipeline.run` and `downstream.finetune` do, or if the folder holds something else or runs of
            another config, or an arm or a seed is unknown. `suite.check` runs before anything is begun.
    """
    folder, began = SuiteFolder(Path(output)), time.monotonic()
    if not is_free(folder.path) and not folder.config.is_file():
        raise UserError(f"the folder {folder.path} is not empty and holds no suite: choose another with --output")
    chosen = _chosen(config, arms, seeds)
    for piece in chosen:
        home = folder.home(piece)
        refuse_links_out(folder.path, folder.lock(piece).parent, home.parent, home, folder.finetuning(piece).path)
    begun = folder.begun(config)
    for piece in begun:  # of all arms and seeds, which will be compared
        folder.refuse_other(config, piece)
    todo = [piece for piece in chosen if not folder.is_done(config, piece)]
    if todo:
        refuse_other_inputs(config, folder, begun)
    require_sound(config, todo)
    write_atomically(folder.config, dump_config(config))
    took: dict[Piece, float] = {}
    for piece in chosen:
        if minutes is not None and time.monotonic() - began >= 60 * minutes:
            break
        before = time.monotonic()
        if piece.stage == "run" or piece.seed is None or folder.is_done(config, Piece("run", piece.arm, piece.seed)):
            if _do_once(config, folder, piece, launcher):
                took[piece] = time.monotonic() - before
                _say_time_left(config, took, [one for one in chosen if not folder.is_done(config, one)])
        else:
            _LOG.info("suite %s: the student of %s is being made by another process", config.name, piece)
    return [piece for piece in pieces(config) if not folder.is_done(config, piece)]


def _chosen(config: SuiteConfig, arms: Sequence[str], seeds: Sequence[int]) -> list[Piece]:
    """Return the pieces of these arms and seeds."""
    for arm in arms:
        if arm not in (known := [*config.run.arms, TEACHER]):
            raise UserError(f'suite {config.name}: no arm "{arm}", {did_you_mean(arm, known)}')
    every = pieces(config)
    its_seeds = sorted({piece.seed for piece in every if piece.seed is not None})
    for seed in seeds:
        if seed not in its_seeds:
            raise UserError(f"suite {config.name}: no seed {seed}; its seeds are {', '.join(map(str, its_seeds))}")
    return [one for one in every if (not arms or one.arm in arms) and (not seeds or one.seed in (None, *seeds))]


def _do_once(config: SuiteConfig, folder: SuiteFolder, piece: Piece, launcher: Sequence[str]) -> bool:
    """Do a piece, unless it is done or another process is at work on it; return whether it was done here."""
    folder.lock(piece).parent.mkdir(exist_ok=True)
    with ExitStack() as alone:
        try:
            alone.enter_context(locked(folder.lock(piece), f"{piece} of the suite {folder.path}"))
        except AtWorkError:
            _LOG.info("suite %s: %s is being done by another process", config.name, piece)
            return False
        if folder.is_done(config, piece):
            _tidy(folder.home(piece))
            return False
        with in_piece(_place(config, piece)):
            phase(f"{piece} of suite {config.name}")
            _do(config, folder, piece, launcher)
    return True


def _say_time_left(config: SuiteConfig, took: Mapping[Piece, float], left: Sequence[Piece]) -> None:
    """Say how long the pieces that are left take, by those of their kind that this call did."""
    like = [[seconds for other, seconds in took.items() if alike(piece, other)] for piece in left]
    known = [median(one) for one in like if one]
    if known:
        some = "" if len(known) == len(left) else f" for {len(known)} of them"
        every = count(len(left), "piece")
        _LOG.info("suite %s: %s left; similar pieces took %s%s", config.name, every, duration(sum(known)), some)


def _place(config: SuiteConfig, piece: Piece) -> str:
    """Return `piece 3/13 · seed 42`; a fine-tuning, which has seeds of its own, names its arm, too."""
    every = pieces(config)
    number = f"piece {every.index(piece) + 1}/{len(every)}"
    if piece.seed is None:
        return f"{number} · {piece.arm}"
    return f"{number} · {'' if piece.stage == 'run' else f'{piece.arm}, '}seed {piece.seed}"


def _tidy(home: Path) -> None:
    """Clear what a process left if it was killed with the piece done, unless another works in the folder now."""
    with contextlib.suppress(UserError), RunFolder(home).alone():
        clear_left_overs(home)


def _do(config: SuiteConfig, folder: SuiteFolder, piece: Piece, launcher: Sequence[str]) -> None:
    home = folder.home(piece)
    if piece.stage == "run":
        assert piece.seed is not None
        one = config.run_config(piece.arm, piece.seed)
        if launcher:
            _launch(launcher, dump_config(one), home, _place(config, piece))
        else:
            run(one, home, resume=True)
        shutil.rmtree(home / "checkpoints", ignore_errors=True)
    else:
        model = Prepared(config.texts).teacher_path if piece.seed is None else str(folder.student(piece))
        finetune(config.finetune_config(model), folder.finetuning(piece).path)


def _launch(launcher: Sequence[str], config: str, home: Path, place: str) -> None:
    """Make a run by a command of its own, whose lines name the piece."""
    file = home.with_name(f"{home.name}.yaml")
    write_atomically(file, config)
    command = [*launcher, "-m", "iit_toolkit", "run", str(file), "--resume", "--output", str(home)]
    try:
        process = subprocess.Popen(command, stdout=sys.stderr.fileno(), env={**os.environ, PIECE: place})
    except OSError as error:
        raise UserError(f"--launcher {launcher[0]}: {error.strerror}; give a command such as torchrun") from error
    try:
        code = process.wait()
    except BaseException:  # such as a signal to end: what was launched would train on
        _end(process)
        raise
    if code:
        raise UserError(f"{' '.join(command)} failed with exit code {code}; its messages say why")
    file.unlink()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a launcher, which has to end its processes itself: torchrun puts each into a session of its own."""
    process.terminate()
    try:
        process.wait(_ENDING)
    except BaseException:  # it does not end, or another signal came
        process.kill()
        process.wait()
