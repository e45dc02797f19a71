from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from iit_toolkit.downstream.scores import answer_scores, classification_scores, entity_scores


@pytest.mark.parametrize(
    ("answers", "predicted", "exact", "f1"),
    [
        (["Denver Broncos"], "Denver Broncos", 1, 1),
        (["Denver Broncos"], "the denver  broncos.", 1, 1),  # case, article, spaces, punctuation
        (["The Who"], "Who", 1, 1),
        (["a theatre"], "an theatre", 1, 1),
        (["another one"], "other one", 0, 1 / 2),  # articles are whole words
        (["U.S. Army"], "US Army", 1, 1),
        (["24-10"], "24 10", 0, 0),  # punctuation vanishes, it does not become a space
        (["1950s"], "in the 1950s", 0, 2 / 3),
        (["gold", "golden color", "the golden anniversary"], "golden anniversary", 1, 1),  # the best of several
        (["Santa Clara", "in Santa Clara, California"], "Santa Clara California", 0, 6 / 7),
        (["café"], "CAFÉ", 1, 1),
        (["café"], "cafe", 0, 0),  # accents count
        (["“gold”"], '"gold"', 0, 0),  # only ASCII punctuation vanishes
        (["10 000"], "10 000", 1, 1),  # a no-break space is a space
        (["to be or not to be"], "to be", 0, 1 / 2),  # 2 of 2 and 2 of 6 words
        (["be"], "be be be", 0, 1 / 2),  # a word counts as often as both have it
        (["gold"], "", 0, 0),
        (["the"], "a", 1, 0),  # nothing is left of either: equal, but no word in common
    ],
)
def test_answers_are_scored_by_the_rules_of_squad(answers: list[str], predicted: str, exact: float, f1: float) -> None:
    scores = answer_scores([answers], [predicted])
    assert scores == {"exact_match": pytest.approx(100 * exact), "f1": pytest.approx(100 * f1)}


def test_exact_match_and_f1_choose_their_answer_apart_and_are_averaged_over_questions() -> None:
    scores = answer_scores([["x y", "x"], ["z"], ["q r s"]], ["X", "no", "q"])
    assert scores["exact_match"] == pytest.approx(100 / 3)
    assert scores["f1"] == pytest.approx((100 + 0 + 50) / 3)


def test_answer_scores_are_those_of_torchmetrics() -> None:
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    draw = random.Random(0)
    pieces = ["the", "A", "gold", "Gold,", "Bowl", "50", "é", "“x”", "U.S.", "an", "-", "river's"]

    def text() -> str:
        words = draw.choices(pieces, k=draw.randint(0, 4))
        return " ".join([*words, draw.choice(["x", "50"])])  # where nothing is left, torchmetrics goes by v2's rule

    answers, predicted = [[text() for _ in range(draw.randint(1, 3))] for _ in range(300)], [text() for _ in range(300)]
    ids = [str(index) for index in range(300)]
    theirs = squad(
        [{"prediction_text": one, "id": name} for one, name in zip(predicted, ids, strict=True)],
        [
            {"answers": {"text": true, "answer_start": [0] * len(true)}, "id": name}
            for true, name in zip(answers, ids, strict=True)
        ],
    )
    ours = answer_scores(answers, predicted)
    assert 0 < ours["exact_match"] < ours["f1"] < 100
    assert {name: float(value) for name, value in theirs.items()} == pytest.approx(ours, abs=1e-3)


def plain_counts(gold: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int, int]:
    found = Counter(zip(gold.tolist(), predicted.tolist(), strict=True))
    return found[1, 1], found[0, 1], found[1, 0], found[0, 0]


def test_classification_scores_are_those_of_their_definitions() -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 2, 200)
    predicted = np.where(draw.random(200) < 0.7, gold, 1 - gold)
    hits, alarms, misses, rejections = plain_counts(gold, predicted)
    margins = (hits + alarms) * (hits + misses) * (rejections + alarms) * (rejections + misses)
    assert classification_scores(("accuracy", "f1", "matthews"), gold, predicted) == {
        "accuracy": pytest.approx(100 * (hits + rejections) / 200),
        "f1": pytest.approx(100 * 2 * hits / (2 * hits + alarms + misses)),
        "matthews": pytest.approx(100 * (hits * rejections - alarms * misses) / math.sqrt(margins)),
    }


def test_correlations_are_those_of_their_definitions() -> None:
    draw = np.random.default_rng(1)
    gold = draw.integers(0, 6, 50).astype(float)  # with ties
    predicted = gold + draw.normal(0, 2, 50)

    def pearson(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean((x - x.mean()) * (y - y.mean())) / (x.std() * y.std()))

    def ranks(x: np.ndarray) -> np.ndarray:
        return np.array([(x < one).sum() + ((x == one).sum() + 1) / 2 for one in x])

    assert classification_scores(("pearson", "spearman"), gold, predicted) == {
        "pearson": pytest.approx(100 * pearson(gold, predicted)),
        "spearman": pytest.approx(100 * pearson(ranks(gold), ranks(predicted))),
    }


@pytest.mark.filterwarnings("error")
def test_predictions_that_are_all_the_same_score_zero_without_a_warning() -> None:
    same = np.zeros(4)
    assert classification_scores(("pearson", "spearman"), np.arange(4.0), same) == {"pearson": 0, "spearman": 0}
    diverged = np.array([0.5, np.nan, 1, 2])
    assert classification_scores(("pearson", "spearman"), np.arange(4.0), diverged) == {"pearson": 0, "spearman": 0}
    assert classification_scores(("f1", "matthews"), np.array([0, 1, 1, 0]), same) == {"f1": 0, "matthews": 0}


@pytest.mark.parametrize(
    ("gold", "predicted", "right", "proposed", "true"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", 2, 2, 2),
        ("B-PER I-PER O B-LOC", "B-PER O O B-LOC", 1, 2, 2),  # half an entity is none
        ("B-PER I-PER O B-LOC", "B-ORG I-ORG O B-LOC", 1, 2, 2),  # another kind is none
        ("B-PER B-PER", "B-PER I-PER", 0, 1, 2),  # two entities side by side
        ("O B-LOC O", "O I-LOC O", 1, 1, 1),  # conlleval lets an entity begin with I
        ("B-PER I-PER", "B-PER I-LOC", 0, 2, 1),  # and another kind begins another entity
    ],
)
def test_entities_are_counted_as_conlleval_counts_them(
    gold: str, predicted: str, right: int, proposed: int, true: int
) -> None:
    scores = entity_scores([gold.split()], [predicted.split()])
    assert scores["precision"] == pytest.approx(100 * right / proposed)
    assert scores["recall"] == pytest.approx(100 * right / true)
    assert scores["f1"] == pytest.approx(100 * 2 * right / (proposed + true))
    agreeing = sum(one == other for one, other in zip(gold.split(), predicted.split(), strict=True))
    assert scores["accuracy"] == pytest.approx(100 * agreeing / len(gold.split()))


@pytest.mark.filterwarnings("error")
def test_entities_are_counted_over_all_sentences_and_none_found_is_zero() -> None:
    gold = [["B-PER", "O"], ["B-LOC", "B-LOC"]]
    assert entity_scores(gold, [["B-PER", "O"], ["O", "O"]])["f1"] == pytest.approx(50)
    assert entity_scores(gold, [["O", "O"], ["O", "O"]]) == {
        "f1": 0,
        "precision": 0,
        "recall": 0,
        "accuracy": pytest.approx(25),
    }
