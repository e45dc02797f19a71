from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.downstream.question_answering import (
    answer_tokens,
    best_answers,
    prepare_question_answering,
    require_windows,
)
from iit_toolkit.errors import UserError
from tests.downstream.tiny import questions, tiny_tokenizer

CONTEXT = "W1 w2, Ánna played in  Rome.\nW3 w4 w5 w6 Bert w7 w8 w9 w10 w11 w12 Oslo"
ANSWERS = ["Ánna", "Ánna played", "Rome", "W3 w4 w5 w6 Bert w7", "Oslo", "W1", "w2, Ánna", "."]


def prepared(rows: list[dict[str, Any]], max_length: int = 18, doc_stride: int = 4) -> PreparedTask:
    examples = Dataset.from_list(rows)
    return prepare_question_answering(examples, {"validation": examples}, tiny_tokenizer(), max_length, doc_stride)


def examples_of(context: str, *answers: str) -> list[dict[str, Any]]:
    return [
        {
            "question": "  Where?",
            "context": context,
            "answers": {"text": [answer], "answer_start": [context.index(answer)]},
        }
        for answer in answers
    ]


def test_windows_overlap_by_the_stride_and_hold_the_whole_context() -> None:
    rows = prepared(examples_of(CONTEXT, "Rome")).evaluations["validation"].rows
    windows = [[tuple(span) for span in row if span[0] >= 0] for row in rows["offsets"]]
    assert len(windows) >= 2 and all(len(ids) <= 18 for ids in rows["input_ids"])
    for one, following in zip(windows, windows[1:], strict=False):
        assert one[-4:] == following[:4]
    words = [CONTEXT[start:end] for start, end in sorted({span for window in windows for span in window})]
    assert words == [
        word for word in CONTEXT.replace(",", " ,").replace(".", " .").replace("played", "play ed").split()
    ]
    assert {tuple(row[:4]) for row in rows["input_ids"]} == {tuple(tiny_tokenizer()("where?")["input_ids"])}


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_labels_of_a_window_are_the_answers_characters_or_its_first_token(answer: str) -> None:
    task = prepared(examples_of(CONTEXT, answer))
    offsets = task.evaluations["validation"].rows["offsets"]
    begin = CONTEXT.index(answer)
    found = 0
    for spans, first, last in zip(offsets, task.train["start_positions"], task.train["end_positions"], strict=True):
        held = [span for span in spans if span[0] >= 0]
        if held[0][0] <= begin and held[-1][1] >= begin + len(answer):
            assert CONTEXT[spans[first][0] : spans[last][1]] == answer
            found += 1
        else:
            assert (first, last) == (0, 0)
    assert found >= (0 if len(answer.split()) > 4 else 1)  # an answer that is longer than the overlap may be cut


def test_an_answer_inside_a_token_takes_the_whole_token() -> None:
    assert answer_tokens([[-1, -1], [0, 5], [6, 10], [10, 14]], 7, 9) == (2, 2)
    assert answer_tokens([[-1, -1], [0, 5], [6, 10], [10, 14]], 7, 12) == (2, 3)
    assert answer_tokens([[-1, -1], [0, 5], [6, 10], [10, 14]], 5, 6) == (0, 0)  # the space between


def logits_for(rows: Dataset, scores: dict[tuple[int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Logits that give these (window, token) a start and an end, and padding and all else little or much."""
    width = max(len(ids) for ids in rows["input_ids"]) + 3
    starts, ends = np.full((len(rows), width), -5.0), np.full((len(rows), width), -5.0)
    for row, ids in enumerate(rows["input_ids"]):
        starts[row, len(ids) :] = ends[row, len(ids) :] = 100  # padding
        starts[row, 0] = ends[row, 1] = 50  # the first token and the question
    for (row, token), value in scores.items():
        starts[row, token] = ends[row, token] = value
    return starts, ends


@pytest.mark.parametrize("answer", ["Ánna", "Rome", "Oslo"])
def test_the_best_token_of_any_window_is_read_as_written_in_the_context(answer: str) -> None:
    rows = prepared(examples_of(CONTEXT, "W1", "W3")).evaluations["validation"].rows
    begin = CONTEXT.index(answer)
    places = {
        (row, token): 3.0
        for row, spans in enumerate(rows["offsets"])
        for token, (start, _) in enumerate(spans)
        if start == begin and rows["example"][row] == 1
    }
    assert places
    assert best_answers([CONTEXT, CONTEXT], rows, *logits_for(rows, places))[1] == answer


def forty_words() -> tuple[str, Dataset, np.ndarray, np.ndarray]:
    """Words x0 to x39, which are tokens 4 to 43 of one window, and logits that are low everywhere."""
    context = " ".join(f"x{index}" for index in range(40))
    rows = prepared(examples_of(context, "x0"), max_length=60, doc_stride=8).evaluations["validation"].rows
    return context, rows, np.full((1, 44), -100.0), np.full((1, 44), -100.0)


def test_spans_have_at_most_thirty_tokens_in_order() -> None:
    context, rows, starts, ends = forty_words()
    starts[0, 4], starts[0, 10], ends[0, 34], ends[0, 33], ends[0, 5] = 9, 8, 9, 7, 6
    # x0 to x30 would be 31 tokens; x0 to x29 scores 16, x6 to x30 scores 17, x6 to x1 is backwards
    assert best_answers([context], rows, starts, ends) == [" ".join(context.split()[6:31])]
    starts[0, 10] = -100
    assert best_answers([context], rows, starts, ends) == [" ".join(context.split()[:30])]


def test_only_the_twenty_best_ends_are_looked_at() -> None:
    context, rows, starts, ends = forty_words()
    starts[0, 43], ends[0, 43] = 9, 0
    assert best_answers([context], rows, starts, ends) == ["x39"]
    ends[0, 4:23] = 1  # 19 ends that come before the start
    assert best_answers([context], rows, starts, ends) == ["x39"]
    ends[0, 4:24] = 1
    assert best_answers([context], rows, starts, ends) != ["x39"]


def test_the_answer_is_that_of_a_search_through_all_spans() -> None:
    rows = prepared(questions(6, seed=1, length=25), max_length=20, doc_stride=5).evaluations["validation"].rows
    contexts = [row["context"] for row in questions(6, seed=1, length=25)]
    draw = np.random.default_rng(0)
    starts, ends = draw.normal(size=(len(rows), 20)), draw.normal(size=(len(rows), 20))
    best: dict[int, tuple[float, str]] = {}
    for row, (example, spans) in enumerate(zip(rows["example"], rows["offsets"], strict=True)):
        for first, (begin, _) in enumerate(spans):
            for last, (_, end) in enumerate(spans):
                if begin >= 0 and end >= 0 and first <= last:
                    found = (starts[row, first] + ends[row, last], contexts[example][begin:end])
                    best[example] = max(best.get(example, found), found)
    assert best_answers(contexts, rows, starts, ends) == [best[example][1] for example in range(6)]


def test_every_question_gets_an_answer_of_its_own_context() -> None:
    rows = questions(520, seed=3, length=18)  # more than are tokenized at a time
    task = prepared(rows, max_length=20, doc_stride=5)
    evaluated = task.evaluations["validation"]
    starts, ends = np.zeros((len(evaluated.rows), 20)), np.zeros((len(evaluated.rows), 20))
    for row, (first, last) in enumerate(zip(task.train["start_positions"], task.train["end_positions"], strict=True)):
        starts[row, first] += 5 if first else 0
        ends[row, last] += 5 if last else 0
    assert evaluated.score((starts, ends)) == {"exact_match": pytest.approx(100), "f1": pytest.approx(100)}


def test_no_span_at_all_is_an_empty_answer() -> None:
    rows = Dataset.from_list([{"example": 0, "offsets": [[-1, -1], [-1, -1]]}])
    assert best_answers(["w1"], rows, np.zeros((1, 2)), np.zeros((1, 2))) == [""]


def test_windows_without_room_are_refused() -> None:
    examples = Dataset.from_list(examples_of(CONTEXT, "Rome"))
    with pytest.raises(UserError, match=r"tasks.squad: max_length 10 leaves 5 tokens .* \(2 tokens\), .* doc_stride 5"):
        require_windows(examples, tiny_tokenizer(), max_length=10, doc_stride=5)
    require_windows(examples, tiny_tokenizer(), max_length=10, doc_stride=4)
    assert len(prepared(examples_of(CONTEXT, "Rome"), max_length=10, doc_stride=4).train) > 10
