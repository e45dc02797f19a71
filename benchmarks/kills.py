"""Kills the verbs that write, at their writes and at random, and compares what repeating them gives.

Writes `docs/interrupted-runs.md` and `docs/interrupted-runs.json`.

`python -m benchmarks.kills` runs every verb once undisturbed and lists its writes (names given, files put on the disk,
weights and states written, files removed). For each point it starts the verb again, stops it there and repeats it
(`run` and `train` with `--resume`). Then it compares the folder with the undisturbed one: the names of all files, the
bytes of weights, the tables row by row, and JSON and YAML without times.

Each point is a process forked from one that has imported everything. Only `report` draws pictures.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse
import contextlib
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import safetensors.torch
import torch
import transformers.modeling_utils
import yaml

import iit_toolkit.cli
import iit_toolkit.downstream.finetune
import iit_toolkit.pipeline
import iit_toolkit.pipeline.suite.work  # noqa: F401 - imported before processes are forked
from iit_toolkit.analysis.report import report
from tests.downstream.tiny import save_data, sentences
from tests.tiny_runs import tiny_run

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
TIMES = frozenset(
    {"created", "provenance", "seconds", "cpu_seconds", "step_seconds", "resumed_at_step", "cost", "verification"}
)
POINTS = {"run": 30, "train": 12, "verify": 14, "report": 4, "export": 12, "finetune": 12, "suite run": 8}
RANDOM = {"run": 9, "train": 6, "verify": 3, "finetune": 3, "suite run": 3}


@dataclass(frozen=True)
class Verb:
    """A command that is killed.

    Attributes:
        command: Its arguments, `HOME` for the folder that it writes.
        again: What is added when it is repeated.
        begins_with: A folder that is copied to `HOME` first.
    """

    command: tuple[str, ...]
    again: tuple[str, ...] = ()
    begins_with: str | None = None


VERBS = {
    "run": Verb(("run", "run.yaml", "-o", "HOME"), ("--resume",)),
    "train": Verb(("train", "run.yaml", "--arm", "causal", "-o", "HOME"), ("--resume",)),
    "verify": Verb(
        ("verify", "run.yaml", "--student", "whole/run/home/causal", "--alignment", "diito/middle", "-o", "HOME")
    ),
    "report": Verb(("report", "HOME"), begins_with="whole/run/home"),
    "export": Verb(("export", "whole/run/home", "--arm", "causal", "-o", "HOME")),
    "finetune": Verb(("finetune", "finetune.yaml", "-o", "HOME")),
    "suite run": Verb(("suite", "run", "suite.yaml", "-o", "HOME")),
}


class Writes:
    """Counts the writes of this process, and kills it at one of them.

    Args:
        stop: The number of the write and where to stop: `before`, `after`, or `torn`, with half of the file there.
    """

    def __init__(self, stop: tuple[int, str] | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self._stop = stop
        self._inside = False

    def watch(self) -> None:
        """Replace the functions that write by counting ones."""
        for name in ("replace", "rename"):
            setattr(os, name, self._counting(name, getattr(os, name), lambda _, target, *__: target))
        os.fsync = self._counting("fsync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
        os.mkdir = self._counting("mkdir", os.mkdir, lambda path, *_, **__: path)
        shutil.rmtree = self._counting("rmtree", shutil.rmtree, lambda path, *_, **__: path)
        torch.save = self._counting("save", torch.save, lambda _, file, *__, **___: file)
        saved = self._counting("save", safetensors.torch.save_file, lambda _, file, *__, **___: file)
        safetensors.torch.save_file = saved
        transformers.modeling_utils.safe_save_file = saved

    def _counting(self, kind: str, function: Callable[..., Any], path_of: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            if self._inside:
                return function(*given, **named)
            path = Path(str(path_of(*given, **named)))
            number = len(self.seen)
            self.seen.append((kind, re.sub("[0-9a-f]{32}", "HEX", path.name)))
            how = self._stop[1] if self._stop is not None and self._stop[0] == number else None
            if how == "before":
                kill()
            self._inside = True
            try:
                return function(*given, **named)
            finally:
                self._inside = False
                if how == "torn" and path.is_file():
                    os.truncate(path, path.stat().st_size // 2)
                if how is not None:
                    kill()

        return counted


def kill() -> None:
    """End this process as the system does."""
    os.kill(os.getpid(), signal.SIGKILL)


def without_pictures(verb: str) -> None:
    """Let `report` alone draw, which is most of the time that a tiny run takes."""
    if verb != "report":
        report.write_figures = lambda *_: []


def stop_at(name: str, seconds: float) -> None:
    """Send this process a signal after so many seconds of CPU time."""
    signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), SIGNALS[name]))
    if name == "KILL":
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process at once
    signal.setitimer(signal.ITIMER_PROF, seconds)


def call(arguments: list[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run the command line in a forked process; return its exit code, negative for the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            signal.alarm(600)  # a child that hangs is found
            prepare()
            iit_toolkit.cli.main(arguments)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            code = 71
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def prepare_inputs(place: Path) -> None:
    """Write a tiny teacher, texts, a task and the configs to a folder."""
    run = tiny_run(place)
    (place / "run.yaml").write_text(yaml.safe_dump(run))
    (place / "task").mkdir()
    data = save_data(place / "task", sentences(32, 0), sentences(16, 1))
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 8}
    tasks = {"sst2": {"data": data, "max_length": 24, "training": training}}
    finetune = {"model": str(place / "teacher"), "tasks": tasks, "seeds": [1, 2], "save_models": True}
    (place / "finetune.yaml").write_text(yaml.safe_dump({"name": "killed", **finetune}))
    both = {"arms": {"plain": {}, "causal": {"alignment": "diito/middle"}}}
    suite = {"name": "killed", "run": {**run, **both}, "seeds": [1], "baseline": "plain"}
    (place / "suite.yaml").write_text(yaml.safe_dump(suite))


def arguments_of(verb: Verb, home: Path, place: Path, *, again: bool = False) -> list[str]:
    """Return the arguments of a verb that writes a folder."""
    parts = [*verb.command, *(verb.again if again else ())]
    known = {"HOME": str(home)} | {name: str(place / name) for name in parts if (place / name).exists()}
    return [known.get(part, part) for part in parts]


def begin(verb: Verb, home: Path, place: Path) -> None:
    """Make what a verb begins with."""
    home.parent.mkdir(parents=True)
    if verb.begins_with is not None:
        shutil.copytree(place / verb.begins_with, home)


def differences(home: Path, whole: Path) -> list[str]:
    """Return how a folder differs from one that was written undisturbed."""
    names = [{path.relative_to(one).as_posix() for path in one.rglob("*")} for one in (home, whole)]
    found = [f"+{name}" for name in sorted(names[0] - names[1])] + [f"-{name}" for name in sorted(names[1] - names[0])]
    for name in sorted(names[0] & names[1]):
        if (whole / name).is_file() and content(home / name, home) != content(whole / name, whole):
            found.append(f"!{name}")
    return found


def content(path: Path, home: Path) -> Any:
    """Return the part of a file that must be the same."""
    if path.suffix == ".safetensors" or path.name in ("config.json", "tokenizer.json"):
        return path.read_bytes()
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_json()
    if path.suffix in (".json", ".yaml"):
        text = path.read_text().replace(str(home.parent), "PLACE")
        return without_times(yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text))
    return None  # pages and pictures hold dates


def without_times(value: Any) -> Any:
    """Return what a document says, without when and how fast."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def points_of(name: str, writes: list[tuple[str, str]], seconds: float, draw: random.Random) -> list[dict[str, Any]]:
    """Choose where a verb is stopped: spread over its writes, and at random."""
    every: list[dict[str, Any]] = []
    for number, (kind, file) in enumerate(writes):
        for how in ("before", "torn") if kind in ("fsync", "save") else ("before", "after"):
            every.append({"write": number, "how": how, "what": f"{how} {kind} {file}"})
    count = min(POINTS[name], len(every))
    chosen = [every[index * len(every) // count] for index in range(count)]
    for index in range(RANDOM.get(name, 0)):
        what = list(SIGNALS)[index % len(SIGNALS)]
        chosen.append({"signal": what, "at": draw.uniform(0.02, 1) * seconds, "what": f"{what} at random"})
    return [{"verb": name, **point} for point in chosen]


def try_point(point: dict[str, Any], home: Path, place: Path) -> dict[str, Any]:
    """Stop a verb at a point, repeat it, and compare."""
    verb = VERBS[point["verb"]]
    begin(verb, home, place)
    log = home.parent / "log.txt"

    def prepare() -> None:
        without_pictures(point["verb"])
        if "write" in point:
            Writes((point["write"], point["how"])).watch()
        else:
            stop_at(point["signal"], point["at"])

    ended = call(arguments_of(verb, home, place), log, prepare)
    again = arguments_of(verb, home, place, again=True)
    repeated = 0 if ended == 0 else call(again, log, lambda: without_pictures(point["verb"]))  # 0: it came too late
    differ = differences(home, place / "whole" / point["verb"] / "home") if repeated == 0 else ["not repeated"]
    told = log.read_text().replace(f"{home.parent}/", "").strip().splitlines()[-1:] if repeated else []
    return {**point, "ended": ended, "repeated": repeated, "differ": differ, "told": told, "exact": not differ}


def undisturbed(name: str, place: Path) -> tuple[list[tuple[str, str]], float]:
    """Run a verb once; return its writes and its seconds of CPU time."""
    home = place / "whole" / name / "home"
    begin(VERBS[name], home, place)
    listed = home.parent / "writes.json"

    def prepare() -> None:
        without_pictures(name)
        writes, ended = Writes(), os._exit
        writes.watch()

        def leave(code: int) -> None:
            listed.write_text(json.dumps([writes.seen, time.process_time() - began]))
            ended(code)

        began = time.process_time()
        os._exit = leave

    code = call(arguments_of(VERBS[name], home, place), home.parent / "log.txt", prepare)
    if code:
        raise SystemExit(f"{name} failed: {(home.parent / 'log.txt').read_text()[-1000:]}")
    seen, seconds = json.loads(listed.read_text())
    return [(kind, file) for kind, file in seen], seconds


def main() -> None:
    """Try every point, and write `docs/interrupted-runs.json` and `docs/interrupted-runs.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DOCS, help="Folder of interrupted-runs.json and .md.")
    parser.add_argument(
        "--verb", action="append", choices=list(VERBS), help="Try this verb anew; others keep their points."
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    draw, results = random.Random(0), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        datasets.config.HF_DATASETS_CACHE = place / "cache"
        in_a_child(lambda: prepare_inputs(place))
        chosen = given.verb or list(VERBS)
        if given.verb:
            earlier = json.loads((given.output / "interrupted-runs.json").read_text())["points"]
            results += [point for point in earlier if point["verb"] not in chosen]
        for name in VERBS:
            if name != "run" and name not in chosen:  # others begin with a run
                continue
            writes, seconds = undisturbed(name, place)
            if name not in chosen:
                continue
            for point in points_of(name, writes, seconds, draw):
                with contextlib.ExitStack() as cleared:
                    spot = place / "points" / str(len(results))
                    cleared.callback(shutil.rmtree, spot, ignore_errors=True)
                    results.append(try_point(point, spot / "home", place))
                sys.stderr.write(f"{len(results)} {name}: {point['what']}: {results[-1]['differ'] or 'exact'}\n")
                write(results, given.output)


def write(results: list[dict[str, Any]], folder: Path) -> None:
    """Write what was found so far."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interrupted-runs.json").write_text(json.dumps({"points": results}, indent=1) + "\n")
    (folder / "interrupted-runs.md").write_text(document(results))


def in_a_child(work: Callable[[], None]) -> None:
    """Do something in a forked process, so that this one never starts threads of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the inputs could not be written")


def document(results: list[dict[str, Any]]) -> str:
    """Return the table of points as Markdown."""
    kinds = {"before a write": "before", "after a write": "after", "in a write (half of the file)": "torn"}
    kinds |= {f"SIG{name} at random": name for name in SIGNALS}
    lines = [
        "# Interrupted runs",
        "",
        "A run that is killed and repeated must give the same files as a run that nothing interrupted. This page tests "
        "every verb that writes. Each verb is stopped at its writes and at random points. Then it is repeated (`run` "
        "and `train` with `--resume`). Its folder is compared with the folder of an undisturbed call: all file names, "
        "the bytes of weights, the tables, and JSON and YAML without times. Only `report` draws figures here.",
        "",
        "`python -m benchmarks.kills` writes this page and `interrupted-runs.json`.",
        "",
        f"{sum(one['exact'] for one in results)} of {len(results)} interruptions end in exactly the same files. "
        f"{sum(one['repeated'] == 0 for one in results)} of {len(results)} folders could be worked on again.",
        "",
        "| verb | " + " | ".join(kinds) + " | exact |",
        "|---|" + "--:|" * (len(kinds) + 1),
    ]
    for name in dict.fromkeys(one["verb"] for one in results):
        mine = [one for one in results if one["verb"] == name]
        counted = Counter(one.get("how", one.get("signal")) for one in mine)
        cells = [str(counted[kind]) for kind in kinds.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {sum(one['exact'] for one in mine)} of {len(mine)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
