"""What `iit.verify` returns in Python: verdict, tables, plots, report; and one typed-in pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import BertConfig, BertForMaskedLM

import iit_toolkit as iit
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.checked import Check
from tests.downstream.tiny import tiny_tokenizer
from tests.drawing import figures_drawn
from tests.golden.trajectories import model, rows


@pytest.fixture(scope="module")
def check() -> Check:
    teacher = model("masked_lm", 4, 16)
    student, alignment = iit.student(teacher, [0, 2]), iit.Alignment.pairs(middle=(2, 1))
    return iit.verify(teacher, student, alignment, rows(paired=False), tokenizer=tiny_tokenizer(), seed=3)


def test_verdict_and_measures_are_those_of_judge_and_summary(check: Check) -> None:
    assert check.verdict == iit.judge(check, seed=3)
    middle = check.summary.students["student"].variables["middle"]
    assert check.measures["middle"]["effect_r2"] == middle.estimate("effect_r2")
    assert check.measures["middle"]["base_agreement"] == middle.base_agreement
    assert repr(check).splitlines()[0] == f"{check.verdict.label} for student" and len(repr(check)) < 400
    html = check._repr_html_()  # pyright: ignore[reportPrivateUsage] - notebooks call it
    assert check.verdict.label in html and "<script" not in html


def test_the_frame_has_a_row_per_measure_and_region(check: Check) -> None:
    frame = check.to_frame()
    chosen = frame[(frame["measure"] == "effective_iia") & (frame["region"] == "outside")]
    assert len(chosen) == 1 and chosen["cases"].iloc[0] == check.measures["middle"]["effective_iia"].cases
    assert set(frame["student"]) == {"student"} and {"iia", "kl_recovered", "margin"} <= set(frame["measure"])


@pytest.mark.parametrize("name", ["effects", "accuracy", "above_floor", "cases", "scatter"])
def test_every_plot_takes_and_returns_axes(name: str, check: Check) -> None:
    draw: Callable[..., Axes] = getattr(check.plot, name)
    given = Figure().subplots()
    assert draw(ax=given) is given and given.get_title().partition(":")[0].find("middle") >= 0
    assert given.lines or given.images
    assert isinstance(draw("middle"), Axes)
    with pytest.raises(UserError, match='no variable "midle", did you mean "middle"'):
        draw("midle")


def test_the_report_is_one_page_with_the_texts(check: Check, tmp_path: Path) -> None:
    with figures_drawn():
        page = check.report(tmp_path / "mine.html")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and check.verdict.label in text and "<svg" in text
    assert "no texts (examples.parquet" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]


def test_wrong_arguments_are_told_in_one_line(check: Check, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the report is a page of HTML; give a name that ends in .html"):
        check.report(tmp_path / "mine.pdf")
    assert not list(tmp_path.iterdir())
    wrong: tuple[Any, ...] = (-9, float("nan"), "a", True)
    for margin in wrong:
        with pytest.raises(UserError, match="margin: give a number from 0 to below 1, not"):
            iit.judge(check, margin=margin)
    teacher, alignment = model("masked_lm", 4, 16), iit.Alignment.pairs(middle=(2, 1))
    with pytest.raises(UserError, match="there are no students; give one model"):
        iit.verify(teacher, {}, alignment, rows(paired=False), tokenizer=tiny_tokenizer())
    wide = model("masked_lm", 2, 16)
    wide.resize_token_embeddings(wide.config.vocab_size + 3)
    with pytest.raises(UserError, match="^student: teacher has .* tokens, student .*; make the student from the"):
        iit.verify(teacher, wide, alignment, rows(paired=False), tokenizer=tiny_tokenizer())
    nothing: Any = None
    with pytest.raises(UserError, match="the teacher is a NoneType; give a loaded model of transformers"):
        iit.student(nothing)
    with pytest.raises(UserError, match="the teacher is a NoneType; give a loaded model of transformers"):
        iit.trace(nothing, rows(paired=False), tokenizer=tiny_tokenizer())
    name: Any = "diito/middle"
    with pytest.raises(UserError, match="the alignment is 'diito/middle'; give an iit.Alignment, such as iit.preset"):
        iit.verify(teacher, iit.student(teacher, 2), name, rows(paired=False), tokenizer=tiny_tokenizer())


def test_several_students_without_a_judged_one_have_no_verdict() -> None:
    teacher = model("masked_lm", 4, 16)
    students = {"a": iit.student(teacher, 2), "b": iit.student(teacher, 2)}
    found = iit.verify(
        teacher, students, iit.Alignment.pairs(middle=(2, 1)), rows(paired=False), tokenizer=tiny_tokenizer()
    )
    assert "no student was judged" in repr(found) and set(found.to_frame()["student"]) == {"a", "b"}
    assert isinstance(found.plot.effects(), Axes)
    with pytest.raises(UserError, match="no student was judged"):
        _ = found.verdict


def explored(base: str, source: str, **more: Any) -> Any:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
    )
    teacher = BertForMaskedLM(config).eval()
    alignment = iit.Alignment.pairs(all=(0, 0), middle=(1, 1))
    return teacher, tokenizer, iit.explore(teacher, teacher, alignment, tokenizer, base, source, **more)


def words() -> list[str]:
    tokenizer = tiny_tokenizer()
    special = set(tokenizer.all_special_tokens)
    return [word for word in sorted(tokenizer.get_vocab()) if word not in special and word.isalpha()][:4]


def test_a_swap_of_every_position_answers_as_the_source_does() -> None:
    one, two, three, four = words()
    mask = tiny_tokenizer().mask_token
    teacher, tokenizer, found = explored(f"{one} {two} {mask}", f"{three} {four} {mask}", swapped=range(5), top=3)
    with torch.no_grad():
        logits = [
            teacher(**tokenizer(text, return_tensors="pt")).logits[0, 3].softmax(-1)
            for text in (f"{one} {two} {mask}", f"{three} {four} {mask}")
        ]
    frame = found.to_frame()
    for side in ("teacher", "student"):
        own = frame[frame["model"] == side]
        assert own["p_before"].to_list() == pytest.approx(logits[0].topk(3).values.tolist(), abs=1e-5)
        assert own["p_after"].to_list() == pytest.approx(logits[1].topk(3).values.tolist(), abs=1e-5)
    assert found.swapped == (0, 1, 2, 3, 4) and "p_after" in repr(found)
    assert "<table" in found._repr_html_()


def test_what_differs_is_swapped_unless_positions_are_given() -> None:
    one, two, three, _ = words()
    mask = tiny_tokenizer().mask_token
    *_, found = explored(f"{one} {two} {mask}", f"{one} {three} {mask}", variable="middle")
    assert (found.swapped, found.variable) == ((2,), "middle") and f"[{two}]" in repr(found)


@pytest.mark.parametrize(
    ("base", "source", "more", "said"),
    [
        ("{0} {mask}", "{0} {1} {mask}", {}, "have 4 and 5 tokens"),
        ("{0} {mask}", "{0} {mask}", {}, "the same tokens"),
        ("{0} {1}", "{1} {1}", {}, "the base has 0 mask tokens"),
        ("{0} {mask}", "{1} {mask}", {"swapped": [9]}, "give positions of both texts, 0 to 3"),
        ("{0} {mask}", "{1} {mask}", {"variable": "midle"}, 'did you mean "middle"'),
    ],
)
def test_what_cannot_be_explored_is_said(base: str, source: str, more: dict[str, Any], said: str) -> None:
    mask = tiny_tokenizer().mask_token
    with pytest.raises(UserError, match=said):
        explored(*(text.format(*words(), mask=mask) for text in (base, source)), **more)
