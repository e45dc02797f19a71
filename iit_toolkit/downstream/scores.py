"""The official scores of the tasks, all times 100."""

from __future__ import annotations

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn

Scores = dict[str, float]


def classification_scores(names: Sequence[str], gold: np.ndarray, predicted: np.ndarray) -> Scores:
    """Score classes or, for the correlations, values, as GLUE does (Wang et al. 2019, section 3).

    A correlation with values that are all the same, or NaN, is undefined; it counts as 0, as Matthews' does.

    Args:
        names: Some of `accuracy`, `f1` (of class 1), `matthews`, `pearson` and `spearman`.
        gold: (N,) true classes or values.
        predicted: (N,) predicted ones.
    """
    return {name: 100 * float(_METRICS[name](gold, predicted)) for name in names}


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    """Score BIO tags by whole entities, as CoNLL's `conlleval` does, with seqeval.

    Args:
        gold: The true tag of every word, sentence by sentence.
        predicted: The predicted ones.

    Returns:
        `f1`, `precision` and `recall` of entities, and `accuracy` of tags.
    """
    tags: tuple[Any, Any] = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a precision or recall of nothing counts as 0
        found = {
            "f1": seqeval.f1_score(*tags),
            "precision": seqeval.precision_score(*tags),
            "recall": seqeval.recall_score(*tags),
            "accuracy": seqeval.accuracy_score(*tags),
        }
    return {name: 100 * float(value) for name, value in found.items()}


def answer_scores(answers: Sequence[Sequence[str]], predicted: Sequence[str]) -> Scores:
    """Score answers to questions as SQuAD v1.1 does (Rajpurkar et al. 2016, section 6.1).

    Answers are compared in lower case, without ASCII punctuation, without the words a, an and the, and with single
    spaces. Each prediction counts with the true answer that it fits best.

    Args:
        answers: The true answers to each question.
        predicted: One predicted answer each.

    Returns:
        `exact_match` and `f1`, which is over words.
    """
    exact = [max(float(_plain(one) == _plain(text)) for one in true) for true, text in _pairs(answers, predicted)]
    overlap = [max(_word_f1(one, text) for one in true) for true, text in _pairs(answers, predicted)]
    return {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(overlap))}


def _pairs(answers: Sequence[Sequence[str]], predicted: Sequence[str]) -> list[tuple[Sequence[str], str]]:
    return list(zip(answers, predicted, strict=True))


def _plain(answer: str) -> str:
    letters = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", letters).split())


def _word_f1(answer: str, predicted: str) -> float:
    one, other = _plain(answer).split(), _plain(predicted).split()
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other)) if common else 0.0


def _correlation(measure: Callable[..., Any]) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(gold: np.ndarray, predicted: np.ndarray) -> float:
        defined = np.ptp(gold) * np.ptp(predicted) > 0  # false for NaN, too
        return measure(gold, predicted).statistic if defined else 0.0

    return correlation


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "accuracy": sklearn.accuracy_score,
    "f1": sklearn.f1_score,
    "matthews": sklearn.matthews_corrcoef,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}
