"""What is refused, or told, of the rows before a run spends anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers as tf

from iit_toolkit import pipeline
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from tests.pipeline.test_run import SIZES, save, sentences

LINES = sentences(24)
SHORT = ["the first list", "the last file", "a new value", "an open string"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The working directory: texts of which some lines are in several files."""
    place = tmp_path_factory.mktemp("rows")
    texts = {"train": LINES[:12], "other": LINES[12:], "some": LINES[10:18], "most": LINES[6:16], "short": SHORT}
    texts["long"] = [" ".join(LINES[start : start + 3]) for start in range(0, 12, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        for name, lines in texts.items():
            Path(f"{name}.txt").write_text("\n".join(lines))
        yield place


def text(train: str, validation: str, **changed: Any) -> dict[str, Any]:
    files = {"train": f"{train}.txt", "validation": f"{validation}.txt"}
    return {"path": "text", "data_files": files, "max_length": 24, "packing": False, **changed}


def config(data: dict[str, Any], **changed: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "checked",
            "teacher": "embedded",
            "student": {"layers": 2},
            "data": data,
            "arms": {"causal": {"alignment": "diito/middle"}},
            "training": {"max_steps": 1, "per_device_train_batch_size": 4},
            "verification": {"pairs": 4, "batch_size": 4, "resamples": 100},
            **changed,
        }
    )


WRONG = {
    "the same file twice": (
        text("train", "train"),
        {},
        "data: 12 of 12 rows (validation) are training rows (train), so students would be verified on",
    ),
    "splits that overlap": (
        text("train", "train", eval_split="train[50%:]"),
        {},
        "data: 6 of 6 rows (train[50%:]) are training rows (train), so students would be verified on what they were "
        "trained on; give splits that share no texts, such as train[:90%] and train[90%:]",
    ),
    "more than half": (text("train", "most"), {}, "data: 6 of 10 rows (validation) are training rows (train), so"),
    "equal splits": (
        text("train", "other", eval_split="train"),
        {},
        "data.train_split and data.eval_split are both train: students would be verified on",
    ),
}


@pytest.mark.parametrize(("data", "changed", "said"), WRONG.values(), ids=WRONG)
def test_students_are_not_verified_on_what_they_are_trained_on(
    data: dict[str, Any], changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    for refuses in (pipeline.validate, lambda config: pipeline.run(config, tmp_path / "out")):
        with pytest.raises(UserError) as refused:
            refuses(config(data, **changed))
        assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_few_shared_rows_are_told(caplog: pytest.LogCaptureFixture) -> None:
    pipeline.validate(config(text("train", "some"), evaluation={"more": text("other", "some", eval_split="train")}))
    told = [record.message for record in caplog.records if "training rows" in record.message]
    assert told == ["data: 2 of 8 rows (validation) are training rows (train)"]


def test_a_set_that_is_measured_only_may_hold_training_rows(caplog: pytest.LogCaptureFixture) -> None:
    sets = {"old": text("other", "other"), "seen": text("other", "train")}
    pipeline.validate(config(text("train", "other"), evaluation=sets))
    told = [record.message for record in caplog.records if "training rows" in record.message]
    assert told == ["evaluation.seen: 12 of 12 rows (validation) are training rows (train)"]


def test_a_set_cut_from_training_texts_at_another_length_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    pipeline.validate(config(text("long", "other"), evaluation={"cut": text("long", "long", max_length=16)}))
    told = [record.message for record in caplog.records if "training texts" in record.message]
    [message] = told
    assert message.startswith("evaluation.cut: ") and message.endswith(
        " rows (validation) are of training texts (train)"
    )
    first, _, last = message.removeprefix("evaluation.cut: ").partition(" of ")
    assert first == last.partition(" ")[0]  # all of them


def test_rows_that_are_no_training_rows_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    pipeline.validate(config(text("train", "other")))
    assert "training rows" not in caplog.text


def test_texts_of_held_out_rows_are_counted_and_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told = "the verified rows are of 4 texts, so the verdict will be INCONCLUSIVE: 20 are needed"
    found = pipeline.validate(config(text("train", "other")))
    assert found[0].detail == "12 training rows, 12 held-out rows of 12 texts"
    assert told in caplog.text
    caplog.clear()
    enough = config(text("other", "many"), verification={"pairs": 40, "batch_size": 4})
    Path("many.txt").write_text("\n".join(sentences(64)[24:]))
    pipeline.validate(enough)
    assert "so the verdict" not in caplog.text


def test_short_rows_are_dropped_aloud_and_kept_where_they_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    data = text("short", "other")
    with pytest.raises(UserError, match="lower data.min_length"):
        _ = Prepared(config(data)).train_rows
    rows = Prepared(config({**data, "min_length": 3})).train_rows
    assert len(rows) == len(SHORT) and max(map(len, rows["input_ids"])) < 12
    assert not caplog.text
    Path("mixed.txt").write_text("\n".join([*SHORT, *LINES]))
    assert len(Prepared(config(text("mixed", "other"))).train_rows) == len(LINES)
    assert "data, split train: 4 of 28 rows are dropped: fewer than 12 tokens (data.min_length)" in caplog.text


def test_a_teacher_whose_positions_begin_late_reads_fewer_tokens(tmp_path: Path) -> None:
    """RoBERTa keeps the first positions, up to its padding's, for itself."""
    teacher = save(tf.RobertaForMaskedLM(tf.RobertaConfig(**SIZES, pad_token_id=0)), tmp_path / "teacher")
    Path("long.txt").write_text("\n".join(" ".join([line] * 4) for line in LINES))
    data = text("long", "other", max_length=32)
    with pytest.raises(UserError, match="data.max_length is 32, but the model reads at most 31 tokens"):
        pipeline.validate(config(data, teacher=teacher))
    found = pipeline.validate(config({**data, "max_length": 31}, teacher=teacher))
    assert all(check.passed for check in found)


def test_a_student_whose_positions_begin_late_reads_fewer_tokens(tmp_path: Path) -> None:
    student = save(tf.RobertaForMaskedLM(tf.RobertaConfig(**SIZES, pad_token_id=0)), tmp_path / "student")
    variable = {"name": "v", **{side: [{"component": "block_output", "layer": 0}] for side in ("teacher", "student")}}
    arm = {"alignment": {"name": "x", "variables": [variable]}}
    data = text("train", "other", max_length=32)
    with pytest.raises(UserError, match="data.max_length is 32, but the student reads at most 31 tokens"):
        pipeline.validate(config(data, student={"checkpoint": student}, arms={"causal": arm}))
