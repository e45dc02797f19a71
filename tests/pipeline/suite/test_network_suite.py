"""Suites of programs and networks: their pieces are the runs of their config, and their report is counted by hand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from iit_toolkit import pipeline
from iit_toolkit.analysis.studies.paired import EQUAL_COMPUTE, EQUAL_STEPS
from iit_toolkit.config.loading import dump_config, load_config, text_config
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.distillation.networks import step_flops
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.networks import run as network_run
from iit_toolkit.pipeline.networks import training
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.suite.collect import collect
from iit_toolkit.pipeline.suite.config import SuiteConfig, load_suite
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, pieces
from iit_toolkit.pipeline.suite.plan import plan
from iit_toolkit.pipeline.suite.report import compared
from iit_toolkit.pipeline.suite.work import work
from iit_toolkit.runs.folder import RunFolder
from tests.forked import forked
from tests.pipeline.suite.test_suite import without_times
from tests.pipeline.test_networks import CONFIG, PLANTED, call, made

ALIGNMENT: dict[str, Any] = {
    "name": "planted",
    "variables": [
        {
            "name": name,
            "teacher": [{"variable": name}],
            "student": [{"component": "2.output", "neurons": [low, low + 1]}],
        }
        for name, low in (("left", 0), ("right", 2))
    ],
}
"""Two of the four neurons are left out, so that there is a leak to measure."""
RUN: dict[str, Any] = {
    **CONFIG,
    "arms": {"iit": {"alignment": ALIGNMENT}, "task": {}, "task-long": {"training": {"steps": 8}}},
    "verification": {"pairs": 60, "resamples": 100, "batch_size": 64, "baseline": "task", "treatment": "iit"},
}
SUITE: dict[str, Any] = {
    "name": "planted-suite",
    "run": "run.yaml",
    "seeds": [1, 2],
    "arm_seeds": {"task-long": [2]},
    "baseline": "task",
    "equal_compute": "task-long",
}
T_OF_ONE_DEGREE = 12.706204736432095
"""The quantile of Student's t for 95% with two seeds: tan of 0.475 pi."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A folder with a suite of three arms, and what it reads; it is the working directory."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "planted.py").write_text(PLANTED)
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN, sort_keys=False))
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    (folder / "alignment.yaml").write_text(yaml.safe_dump(ALIGNMENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def suite(place: Path) -> SuiteConfig:
    return load_suite(place / "suite.yaml")


@pytest.fixture(scope="module")
def whole(place: Path) -> SuiteFolder:
    """The folder of a suite that nothing stopped."""
    code, printed, said = call("suite", "run", "suite.yaml", "-o", "whole")
    assert (code, printed) == (0, "whole: 5 of 5 pieces are done\n"), said
    assert "piece 1/5 · seed 1 · training iit" in said
    return SuiteFolder(place / "whole")


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_every_piece_is_what_a_run_of_the_config_makes(whole: SuiteFolder, suite: SuiteConfig, place: Path) -> None:
    config = load_config("run.yaml", ["seed=2"])
    folder = pipeline.run(config, place / "single")
    single = results_of(folder)
    for arm in RUN["arms"]:
        home = whole.home(Piece("run", arm, 2))
        piece = results_of(home)
        assert piece["summary"]["students"][arm] == single["summary"]["students"][arm]
        assert piece["evaluation"]["held-out"]["accuracy"][arm] == single["evaluation"]["held-out"]["accuracy"][arm]
        assert without_times(piece["arms"][arm]) == without_times(single["arms"][arm])
        assert (piece["data"], piece["teacher"]) == (single["data"], single["teacher"])
        cases = [pd.read_parquet(at / "outcomes.parquet").groupby("student").get_group(arm) for at in (home, folder)]
        pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in cases))
        weights = [load_file(at / arm / "model.safetensors") for at in (home, folder)]
        assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
        assert piece["verdict"]["student"] == arm and piece["seed"] == 2
    iit, task = (results_of(whole.home(Piece("run", arm, 2)))["verdict"] for arm in ("iit", "task"))
    assert iit == single["verdict"] and iit["variables"] != task["variables"]
    data = [results_of(whole.home(piece))["data"] for piece in pieces(suite)]
    assert all(one == data[0] for one in data)  # a run's seed is not that of its rows
    shares = {results_of(whole.home(piece))["arms"][piece.arm]["steps"] for piece in pieces(suite)}
    assert shares == {3, 8}


def killed_while_training() -> None:
    """Kill this process at the second update of the second seed."""
    log = training.History.log

    def killed(self: Any, step: int, losses: Any) -> None:
        log(self, step, losses)
        if step == 2 and Path("killed/iit/seed-2").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    training.History.log = killed  # pyright: ignore[reportAttributeAccessIssue]
    work(load_suite("suite.yaml"), "killed")


def killed_before_verification() -> None:
    """Kill this process if the second seed's network is trained, and not verified."""
    verify = network_run._verify_and_report

    def killed(*arguments: Any) -> None:
        if Path("killed/iit/seed-2").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        verify(*arguments)

    network_run._verify_and_report = killed
    work(load_suite("suite.yaml"), "killed")


def test_a_killed_suite_is_the_uninterrupted_one(
    whole: SuiteFolder, suite: SuiteConfig, place: Path, tmp_path: Path
) -> None:
    killed = SuiteFolder(place / "killed")
    for how, trained in ((killed_while_training, False), (killed_before_verification, True)):
        done = forked(how, tmp_path)
        assert done.code == -signal.SIGKILL, done.stderr
        assert [piece for piece in pieces(suite) if killed.is_done(suite, piece)] == pieces(suite)[:2]
        home = killed.home(Piece("run", "iit", 2))
        assert (home / "iit" / "model.safetensors").is_file() == trained and not (home / "results.json").exists()
    assert work(suite, killed.path) == []
    for piece in pieces(suite):
        one, two = whole.home(piece), killed.home(piece)
        assert without_times(results_of(one)) == without_times(results_of(two))
        pd.testing.assert_frame_equal(*(pd.read_parquet(at / "outcomes.parquet") for at in (one, two)))
    before = {path: path.stat().st_mtime_ns for path in killed.path.rglob("*.json")}
    assert work(suite, killed.path) == []
    assert {path: path.stat().st_mtime_ns for path in killed.path.rglob("*.json")} == before


def test_parts_of_a_suite(suite: SuiteConfig, place: Path) -> None:
    assert work(suite, place / "part", minutes=0) == pieces(suite)
    left = work(suite, place / "part", arms=["task"], seeds=[2])
    assert [piece for piece in pieces(suite) if piece not in left] == [Piece("run", "task", 2)]


def test_a_plan_tells_steps_and_operations(whole: SuiteFolder, suite: SuiteConfig, place: Path) -> None:
    planned = {one.piece: one for one in plan(suite, place / "none")}
    run = load_config("run.yaml")
    assert isinstance(run, NetworkRunConfig)
    prepared = PreparedNetworks(run)
    for arm, steps in (("iit", 3), ("task", 3), ("task-long", 8)):
        one = planned[Piece("run", arm, 2)]
        settings, alignment = prepared.arm_training(arm).model_dump(), prepared.arm_alignment(arm)
        rows = prepared.rows.drawn["train"]
        step = step_flops(prepared.new_student(), prepared.teacher, alignment, rows, **settings).flops
        assert (one.steps, one.flops, one.seconds, one.done) == (steps, steps * step, None, False)
        assert one.least_seconds is not None and one.least_seconds > 0
        made_with = results_of(whole.home(one.piece))["arms"][arm]
        assert one.flops == made_with["cost"]["flops"] * made_with["micro_batches_run"]
    code, printed, _ = call("suite", "plan", "suite.yaml", "seeds=[1, 2, 3]", "-o", "whole")
    assert code == 0 and "5 of 7 pieces are done" in printed and "verification comes" in " ".join(printed.split())
    assert "perplexity" not in printed and "by what the like of 2 of them took" in printed
    [line] = [line.split() for line in printed.splitlines() if "run-iit-seed-3" in line]
    assert line[1:4] == ["to", "do", "3"]


def test_a_report_is_what_its_runs_say(whole: SuiteFolder, place: Path) -> None:
    assert call("suite", "collect", "suite.yaml", "kept", "-o", "whole")[1] == "kept: results of 5 pieces\n"
    assert {path.suffix for path in (place / "kept").rglob("*") if path.is_file()} == {".json", ".yaml"}
    code, printed, said = call("suite", "report", "kept", "-o", "tables")
    assert code == 0, said
    assert printed == call("suite", "report", "whole")[1] == (place / "tables" / "suite.md").read_text() + "\n"
    assert "erplexity" not in printed and "oken" not in printed and "fine-tuning" not in printed
    names = {path.name for path in (place / "tables" / "figures").glob("*.svg")}
    assert names == {"effect_r2-accuracy.svg", "training-perplexity.svg"}

    runs = {arm: [results_of(whole.home(Piece("run", arm, seed))) for seed in (1, 2)] for arm in ("iit", "task")}
    held = {arm: [one["summary"]["students"][arm]["variables"]["left"] for one in runs[arm]] for arm in runs}
    told: dict[str, list[float]] = {
        f"{kind}, left": [
            held["iit"][at][name][region]["value"] - held["task"][at][name][region]["value"] for at in (0, 1)
        ]
        for kind, name, region in (("IIA", "iia", "all"), ("effect R² outside", "effect_r2", "outside"))
    }
    leaks = {
        arm: [max(one["difference"]["value"] for one in run["verdict"]["leaks"]) for run in found]
        for arm, found in runs.items()
    }
    assert all(value > 0 for found in leaks.values() for value in found)
    told["leak"] = [leaks["iit"][at] - leaks["task"][at] for at in (0, 1)]
    accuracy = [[one["evaluation"]["held-out"]["accuracy"][arm]["value"] for one in runs[arm]] for arm in runs]
    of_accuracy = [accuracy[0][at] - accuracy[1][at] for at in (0, 1)]
    comparison = compared("kept")
    at_steps = comparison.find("iit", EQUAL_STEPS)
    assert at_steps is not None
    paired = {one.measure.name: one for one in at_steps.basis.measures}
    assert paired["accuracy, held-out"].difference == pytest.approx(sum(of_accuracy) / 2, abs=1e-12)
    for name, (one, two) in told.items():
        assert one != two, name  # or there is no interval
        assert paired[name].difference == pytest.approx((one + two) / 2, abs=1e-12)
        half = T_OF_ONE_DEGREE * abs(one - two) / 2  # the standard error of two numbers
        assert paired[name].low == pytest.approx((one + two) / 2 - half, abs=1e-9)
        assert paired[name].high == pytest.approx((one + two) / 2 + half, abs=1e-9)
        assert (paired[name].seeds, paired[name].outcome) == (2, "INCONCLUSIVE")
    at_compute = comparison.find("iit", EQUAL_COMPUTE)
    assert at_compute is not None and at_compute.basis.baseline == "task-long"
    flops = {arm: runs[arm][1]["arms"][arm]["cost"]["flops"] for arm in runs}
    assert at_compute.flops_ratio == pytest.approx(flops["task"] * 8 / (flops["iit"] * 3))
    numbers = json.loads((place / "tables" / "suite.json").read_text())
    labels = {arm: {str(run["seed"]): run["verdict"]["label"] for run in found} for arm, found in runs.items()}
    assert {arm: numbers["verdicts"][arm] for arm in labels} == labels
    assert "| task | 0 | 2 | 0 |" in printed and set(labels["task"].values()) == {"NOT SUPPORTED"}
    assert "leak" in numbers["groups"]


def test_what_was_collected_is_of_the_settings(whole: SuiteFolder, suite: SuiteConfig, place: Path) -> None:
    collect(suite, whole.path, place / "mixed")
    other = load_suite("suite.yaml", ["run.arms.iit.temperature=2.0"])
    with pytest.raises(UserError, match="is of other settings than the suite's run-iit-seed-1;"):
        collect(other, "nothing", place / "mixed")
    assert load_suite(place / "mixed" / "suite.yaml") == suite


def test_an_alignment_file_is_read_into_the_suite(place: Path) -> None:
    given = ["run.arms.iit.alignment=alignment.yaml"]
    read = load_suite("suite.yaml", given)
    assert "alignment.yaml" not in dump_config(read)
    (place / "again.yaml").write_text(dump_config(read))
    assert load_suite(place / "again.yaml") == read
    other = {**ALIGNMENT, "variables": ALIGNMENT["variables"][:1]}
    (place / "alignment.yaml").write_text(yaml.safe_dump(other))
    assert load_suite("suite.yaml", given) != read
    (place / "alignment.yaml").write_text(yaml.safe_dump(ALIGNMENT))


def test_other_settings_than_those_of_what_is_there(whole: SuiteFolder) -> None:
    assert not whole.is_done(load_suite("suite.yaml", ["run.training.steps=4"]), Piece("run", "iit", 1))
    before = whole.config.read_text()
    for changed in (["run.training.steps=4"], ["run.data.seed=1"], ["run.verification.pairs=61", "seeds=[3]"]):
        with pytest.raises(UserError, match="has other settings than the suite's run-iit-seed-1;") as caught:
            work(load_suite("suite.yaml", changed), whole.path)
        assert "\n" not in str(caught.value)
    assert whole.config.read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("manual_seed(0)", "manual_seed(1)", "teacher and train rows and held-out rows"),
        ("(False, True)", "(0, 1)", "teacher"),
    ],
)
def test_a_changed_python_file_is_told_before_anything_is_done(
    whole: SuiteFolder, old: str, new: str, what: str
) -> None:
    more = load_suite("suite.yaml", ["seeds=[1, 2, 3]"])
    Path("planted.py").write_text(PLANTED.replace(old, new))
    try:
        with pytest.raises(UserError, match=f"seed-1/iit was made with other inputs: {what} changed since;"):
            work(more, whole.path)
    finally:
        Path("planted.py").write_text(PLANTED)
    assert not whole.home(Piece("run", "iit", 3)).exists()


PROGRAM = "run.verification.program=planted.py:program"
FINETUNE = "finetune={tasks: {rte: {}}}"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            [FINETUNE],
            "finetune is for models of transformers, but the run's teacher is a program or a network of torch",
        ),
        (["arm_students.iit={layers: 1}"], "arm_students is for models of transformers, but"),
        (["baseline=tsk"], 'baseline: no arm "tsk", did you mean "task"'),
        (["arm_seeds.late=[1]"], 'arm_seeds.late: no arm "late"'),
        (["variables=[lft]"], 'variables: the runs are not verified on "lft", did you mean "left"'),
        (["run.arms.iit.alignment.variables=[]"], "arms.iit.alignment"),
        (["run.training.step=1"], "training.step"),
        (["run.trainng.steps=1"], 'run.trainng: unknown key, did you mean "training"'),
        (["run.arms.iit.weight={}"], 'run.arms.iit.weight: unknown key, did you mean "weights"'),
        (["run.verification.pairs=many"], "run.verification.pairs: "),
        (["run.training.seed=1"], "training.seed: this is set by the config's arms and seed; leave it out"),
        (["run.arms.task.weights={causal_ce: 1}"], "arms.task.weights: causal_* weights"),
        (["run.student.weights=nowhere"], "student.weights: nowhere/model.safetensors: no such file"),
        (["run.student.network=planted.py:nothing"], "planted.py has no 'nothing'"),
        (
            ["run.teacher={network: 'planted.py:network', weights: nowhere}", PROGRAM],
            "teacher.weights: nowhere/model.safe",
        ),
        (
            ["run.teacher={network: 'planted.py:network'}", PROGRAM, "run.arms.iit.alignment=networks.yaml"],
            "seeds 1 and 2 do not have the same teacher, but seeds of a suite are compared; give teacher.weights, or",
        ),
        (
            ["run.data.path=drawn.py:rows"],
            "seeds 1 and 2 do not have the same train rows, but seeds of a suite are compared; draw them",
        ),
        (
            ["run.arms.iit.alignment=learned.yaml"],
            "verification.alignment has learned subspaces, but no arm trains them",
        ),
        (["run.teacher=embedded"], "run.student.network: unknown key"),
    ],
)
def test_mistakes_are_told_in_one_line(place: Path, overrides: list[str], told: str) -> None:
    between = [{**one, "teacher": one["student"]} for one in ALIGNMENT["variables"]]
    learned = [
        {**one, "student": [{"component": "2.output", "subspace": {"rank": 1}}]} for one in ALIGNMENT["variables"]
    ]
    for name, variables in (("networks", between), ("learned", learned)):
        (place / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "variables": variables}))
    (place / "drawn.py").write_text(
        "import torch\ndef rows():\n    drawn = torch.randint(2, (900, 4)).double()\n"
        "    return {'inputs': drawn[:300]}, {'inputs': drawn[300:]}\n"
    )
    with pytest.raises(UserError) as caught:
        work(load_suite("suite.yaml", overrides), place / "wrong")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not (place / "wrong").exists()


def test_a_network_with_weights_teaches_all_seeds(place: Path) -> None:
    network = made()["network"]()
    (place / "weights").mkdir()
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, "weights/model.safetensors")
    variables = [{**one, "teacher": one["student"]} for one in ALIGNMENT["variables"]]
    document = {
        **SUITE,
        "run": {
            **RUN,
            "teacher": {"network": "planted.py:network", "weights": "weights"},
            "arms": {"iit": {"alignment": {"name": "between", "variables": variables}}, "task": {}},
            "verification": {**RUN["verification"], "program": "planted.py:program"},
        },
        "arm_seeds": {},
        "equal_compute": None,
    }
    (place / "chain.yaml").write_text(yaml.safe_dump(document))
    chain = load_suite("chain.yaml")
    assert work(chain, place / "chain", seeds=[1]) == [Piece("run", "iit", 2), Piece("run", "task", 2)]
    printed = call("suite", "report", "chain")[1]
    assert "Teacher planted.py:network (weights) (" in printed and "Program" not in printed


def test_a_suite_is_refused_where_texts_are_needed_and_its_verbs_are_named(suite: SuiteConfig) -> None:
    with pytest.raises(UserError, match="compare, suite, gate and ls work"):
        text_config(suite.run)


def test_the_schema_has_both_kinds_of_run_configs() -> None:
    schema = json.loads(call("schema", "suite")[1])
    kinds = {one["$ref"].rpartition("/")[2] for one in schema["properties"]["run"]["oneOf"]}
    assert kinds == {"RunConfig", "NetworkRunConfig"}
    assert set(RUN) <= set(schema["$defs"]["NetworkRunConfig"]["properties"])


def test_the_runs_of_a_suite_are_ordinary_ones(whole: SuiteFolder) -> None:
    code, printed, _ = call("ls", "whole")
    assert code == 0 and printed.count("NOT SUPPORTED") == 5
    for verb in (("report", "whole/iit/seed-1"), ("compare", "whole/iit/seed-1", "whole/iit/seed-2")):
        arms = ["--treatment", "iit", "--baseline", "iit"] if verb[0] == "compare" else []
        code, _, said = call(*verb, *arms)
        assert code == (2 if arms else 0) and (not arms or "treatment and baseline are both iit" in said)
    assert RunFolder(whole.home(Piece("run", "iit", 1))).report_html.is_file()
