"""Planted truths through the whole command line: verify, report, gate and compare give the verdict that must be.

Models are words of blocks. A letter is a block with random weights of its own, a dot one that changes nothing. So the
teacher `A.B.C.` and the students `A.BC` and `ABC.` are one function, computed at other depths; where the teacher's
block 3 is done, so are block 2 of `A.BC` and block 1 of `ABC.`, and no other block of theirs.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers as tf
import yaml

from iit_toolkit.analysis.statistics.input_words import words_for
from iit_toolkit.analysis.statistics.numbers import decimal
from iit_toolkit.cli import main
from tests.data.conftest import SPECIAL, words_of
from tests.families import NO_DROPOUT, with_large_weights

WIDTH = 32
SIZES: dict[str, Any] = {
    "vocab_size": 600,
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "num_labels": 30,
    **NO_DROPOUT,
}
TASKS = {"masked_lm": tf.BertForMaskedLM, "sequence_classification": tf.BertForSequenceClassification}
TEACHER, LATE, EARLY = "A.B.C.", "A.BC", "ABC."
WORDS = ("module", "file", "value", "list", "error", "string", "class", "function", "method", "object", "name", "line")
HALF = [0, WIDTH // 2]
"""The neurons that are aligned."""
ALIGNMENTS = {
    "half": [("half", 3, 2, HALF)],
    "two": [("early", 1, 0, None), ("middle", 3, 1, None)],
    "last": [("last", 5, 3, None)],
}
"""By name: variables with the teacher's and the student's block, and neurons."""


def make(blocks: str, task: str = "masked_lm") -> Any:
    """A model of these blocks; all else is the same in every model of a task."""
    known = sorted(set(TEACHER) - {"."})
    source = with_large_weights(TASKS[task](tf.BertConfig(**SIZES, num_hidden_layers=len(known))))
    for name, parameter in source.named_parameters():
        if "LayerNorm.bias" in name:
            parameter.data.zero_()  # a norm of what was normalised changes nothing only without a shift
    model = TASKS[task](tf.BertConfig(**SIZES, num_hidden_layers=len(blocks)))
    weights = {name: value for name, value in source.state_dict().items() if ".layer." not in name}
    model.load_state_dict(weights, strict=False)
    for block, letter in zip(model.bert.encoder.layer, blocks, strict=True):
        if letter == ".":
            for layer in (block.attention.output.dense, block.output.dense):
                layer.weight.data.zero_()
                layer.bias.data.zero_()
        else:
            block.load_state_dict(source.bert.encoder.layer[known.index(letter)].state_dict())
    return model


def untrained(task: str) -> Any:
    """A model of four blocks with the weights that the library draws."""
    torch.manual_seed(7)
    return TASKS[task](tf.BertConfig(**SIZES, num_hidden_layers=4))


def with_halves_swapped(model: Any) -> Any:
    """The same function, with each half of the residual stream's neurons where the other was."""
    reads = ("query", "key", "value", "intermediate.dense", "embeddings.weight", "transform.dense", "pooler.dense")
    writes = ("attention.output.dense", "output.dense", "transform.dense")
    for name, parameter in model.named_parameters():
        path = name.rpartition(".")[0]
        if parameter.dim() == 2 and (path.endswith(reads) or name.endswith(reads)):
            parameter.data = parameter.data.roll(WIDTH // 2, 1)
        if path.endswith(writes):
            parameter.data = parameter.data.roll(WIDTH // 2, 0)
    model.tie_weights()
    return model


def call(*arguments: str) -> tuple[int, str]:
    """Run the command line; return the exit code, and what it prints to standard output in one line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0), " ".join(out.getvalue().split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The working directory: texts, teachers, students, alignments, and a config for each task."""
    place = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        for seed, name in enumerate(("rows", "others")):
            drawn = torch.randint(len(WORDS), (240, 16), generator=torch.Generator().manual_seed(seed)).tolist()
            texts = [" ".join(WORDS[word] for word in row) for row in drawn]
            Path(f"{name}.json").write_text(
                "".join(f"{json.dumps({'text': text, 'label': row % 3})}\n" for row, text in enumerate(texts))
            )
        others = (f"w{index}" for index in range(SIZES["vocab_size"] - len(SPECIAL) - len(WORDS)))
        tokenizer = words_of(*WORDS, *others)  # only the models' answers are among the others
        tokenizer.model_max_length = 32
        for task in TASKS:
            models = {"teacher": make(TEACHER, task), "late": make(LATE, task), "early": make(EARLY, task)}
            models |= {"halves-swapped": with_halves_swapped(make(LATE, task)), "null": untrained(task)}
            for name, model in models.items():
                model.eval().save_pretrained(f"{task}/{name}")
                tokenizer.save_pretrained(f"{task}/{name}")
            Path(f"{task}.yaml").write_text(yaml.safe_dump(config(task)))
        for name, variables in ALIGNMENTS.items():
            Path(f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "variables": [*map(variable, variables)]}))
        yield place


def config(task: str) -> dict[str, Any]:
    return {
        "name": task.replace("_", "-"),
        "task": task,
        "teacher": f"{task}/teacher",
        "student": {"config": {"num_hidden_layers": 4}},
        "data": {
            "path": "json",
            "data_files": "rows.json",
            "eval_split": "train",
            "max_length": 24,
            "packing": False,
            **({"label_column": "label"} if task == "sequence_classification" else {}),
        },
        "arms": {"none": {}},
        "verification": {"pairs": 120, "batch_size": 60, "resamples": 200},
    }


def variable(given: tuple[str, int, int, list[int] | None]) -> dict[str, Any]:
    name, teacher, student, neurons = given
    part = {} if neurons is None else {"neurons": neurons}
    return {
        "name": name,
        "teacher": [{"layer": teacher, "component": "block_output", **part}],
        "student": [{"layer": student, "component": "block_output", **part}],
    }


def verify(student: str, alignment: str, output: str, *overrides: str, task: str = "masked_lm") -> tuple[Any, str]:
    """Verify a student; return its results, and what was printed, after checking that every place says the same."""
    given = ["--student", f"{task}/{student}", "--alignment", f"{alignment}.yaml"]
    code, printed = call("verify", f"{task}.yaml", *overrides, *given, "-o", output)
    assert code == 0  # whatever the verdict
    results = json.loads(Path(output, "results.json").read_text())
    verdict = results["verdict"]
    said = f" {verdict['label']} for student {verdict['label']} "
    assert re.search(rf"(?<!NOT){re.escape(said)}", printed)
    lines = Path(output, "report.md").read_text().splitlines()
    assert f"**{verdict['label']}**: does student keep its teacher's causal structure?" in lines
    assert all(one["sentence"] in lines for one in verdict["variables"].values())
    assert "stale" not in " ".join(lines)
    return results, printed


def measured(results: Any, name: str) -> Any:
    return results["summary"]["students"]["student"]["variables"][name]


def controls(results: Any, name: str) -> dict[str, bool | None]:
    return {one["name"]: one["passed"] for one in results["verdict"]["variables"][name]["controls"]}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("student", "alignment", "task"),
    [
        ("late", "half", "masked_lm"),
        ("early", "two", "masked_lm"),
        ("late", "half", "sequence_classification"),
    ],
)
def test_a_student_that_computes_as_its_teacher_is_supported(student: str, alignment: str, task: str) -> None:
    folder = f"planted-{student}-{task}"
    results, _ = verify(student, alignment, folder, task=task)
    assert results["verdict"]["label"] == "SUPPORTED"
    names = [name for name, *_ in ALIGNMENTS[alignment]]
    for name in names:
        found = measured(results, name)
        assert found["effective_iia"]["outside"]["value"] == found["iia"]["all"]["value"] == 1.0
        assert found["effect_r2"]["outside"]["value"] == pytest.approx(1.0, abs=1e-4)
        assert found["base_agreement"]["value"] == 1.0 and found["effective_floor"]["outside"]["value"] == 0.0
        assert set(controls(results, name).values()) == {True} and len(controls(results, name)) >= 5
    code, printed = call("gate", folder, "--min-lower", "0.9")
    assert code == 0 and printed.startswith(f"### Gate passed: student of {results['name']}")
    assert "Verdict of the run: SUPPORTED." in printed
    report = Path(folder, "report.md")
    before = report.read_text()
    report.unlink()
    assert call("report", folder, "--format", "md")[0] == 0
    assert report.read_text() == before


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("student", "task", "reached"),
    [
        ("early", "masked_lm", 0.0),  # block 2 of `ABC.` is done with C: nothing reads it across positions
        ("halves-swapped", "sequence_classification", 0.5),  # the aligned neurons hold what the others should
    ],
)
def test_a_sabotaged_student_with_the_same_answers_is_not_supported(student: str, task: str, reached: float) -> None:
    folder = f"sabotaged-{student}-{task}"
    results, _ = verify(student, "half", folder, task=task)
    found = measured(results, "half")
    assert found["base_agreement"]["value"] == 1.0
    assert found["effective_iia"]["outside"]["value"] <= reached
    refused(folder, results)


@pytest.mark.usefixtures("place")
def test_an_untrained_student_is_not_supported() -> None:
    results, _ = verify("null", "half", "null")
    assert measured(results, "half")["effective_iia"]["outside"]["value"] < 0.05
    refused("null", results)


def refused(folder: str, results: Any) -> None:
    """Check that a student is NOT SUPPORTED, and that the gate says why it does not pass."""
    assert results["verdict"]["label"] == "NOT SUPPORTED"
    assert False in controls(results, "half").values()
    code, printed = call("gate", folder, "--min-lower", "0.9")
    assert code == 1 and printed.startswith("### Gate FAILED (1 check of 2): student")
    value = measured(results, "half")["effect_r2"]["outside"]["value"]
    where = words_for(results["task"]).region
    assert f"| lower bound | half | NO | Effect R²{where} is {decimal(value)}" in printed
    assert "its lower end is below 0.9" in printed and "Verdict of the run: NOT SUPPORTED." in printed


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("student", "alignment", "override", "why"),
    [
        ("late", "half", "verification.pairs=16", "bases and sources from 20 texts each are needed"),
        ("late", "last", "verification.pairs=64", "so nothing was tested"),
    ],
)
def test_too_few_changed_cases_are_inconclusive(student: str, alignment: str, override: str, why: str) -> None:
    folder = f"few-{alignment}"
    results, printed = verify(student, alignment, folder, override)
    assert results["verdict"]["label"] == "INCONCLUSIVE" and why in results["verdict"]["sentence"]
    assert "too few, or of too few inputs" in printed and "next: more data" in printed and "By effective IIA" in printed
    found = measured(results, alignment)["effect_r2"]["outside"]
    assert found["value"] in (pytest.approx(1.0, abs=1e-4), None) and found["clusters"] < 20
    code, printed = call("gate", folder, "--min-lower", "0.0")
    assert code == 1 and f"| lower bound | {alignment} | NO | Effect R² outside is" in printed and why in printed


@pytest.fixture(scope="module")
def trained(place: Path) -> list[str]:
    """Runs of three seeds whose students start as their teacher: two arms have no reason to move, one is wrecked."""
    still = {"alignment": "half.yaml", "weights": {"ce": 1.0, "causal_ce": 1.0}}
    plain = config("masked_lm")
    changes = {
        "student": {"checkpoint": "masked_lm/late"},
        "arms": {"still": still, "twin": still, "wrecked": {"weights": {"task": 1.0}}},
        "data": {
            **plain["data"],
            "data_files": {"train": "others.json", "held_out": "rows.json"},
            "eval_split": "held_out",
        },
        "training": {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 0.3, "optim": "sgd"},
        "verification": {**plain["verification"], "treatment": "still", "baseline": "wrecked"},
    }
    (place / "trained.yaml").write_text(yaml.safe_dump(plain | changes))
    folders = [f"seed-{seed}" for seed in (1, 2, 3)]
    for seed, folder in enumerate(folders, 1):
        assert call("run", "trained.yaml", f"seed={seed}", "-o", folder)[0] == 0
    return folders


def test_a_student_that_training_left_as_its_teacher_beats_one_that_it_wrecked(
    trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, printed = call("compare", *trained, "-o", "compared")
    assert code == 0 and "still and wrecked each made 3 steps;" in printed
    assert re.search(r"effective IIA outside, half \+0\.\d+ \[\+0\.\d+, \+[\d.]+\] BEATS", printed)
    document = json.loads(Path("compared", "compare.json").read_text())
    rows = {row["measure"]["name"]: row["values"] for rows in document["groups"].values() for row in rows}
    assert rows["effective IIA outside, half"]["still"] == [1.0, 1.0, 1.0]
    assert max(rows["effective IIA outside, half"]["wrecked"]) < 0.9


def test_two_arms_of_one_objective_beat_each_other_nowhere(trained: list[str]) -> None:
    code, printed = call("compare", *trained, "--treatment", "twin", "--baseline", "still")
    assert code == 0 and "effective IIA outside, half +0.000 [no interval] INCONCLUSIVE" in printed
    assert "BEAT" not in printed


def test_what_the_student_reached_before_training_is_not_supported(trained: list[str]) -> None:
    for folder in trained:
        results = json.loads(Path(folder, "results.json").read_text())
        verdict, still = results["verdict"], results["summary"]["students"]["still"]["variables"]["half"]
        assert still["effective_iia"]["outside"]["value"] == 1.0
        assert (verdict["student"], verdict["label"]) == ("still", "NOT SUPPORTED")
        assert [name for name, passed in controls(results, "half").items() if not passed] == ["untrained"]
        assert results["comparison"]["outcome"] == "HIGHER"
