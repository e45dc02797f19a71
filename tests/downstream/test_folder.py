from __future__ import annotations

from pathlib import Path

import pytest

from iit_toolkit.downstream.folder import FinetuneFolder, summarise
from iit_toolkit.errors import UserError


def test_a_summary_holds_mean_median_and_spread_of_every_metric() -> None:
    scores = {5: (1.0, 10.0), 6: (9.0, 30.0), 7: (2.0, 20.0)}
    runs = [
        {"seed": seed, "score": one, "scores": {"a": {"x": one, "y": other}, "b": {"x": other}}}
        for seed, (one, other) in scores.items()
    ]
    found = summarise(runs)
    first = {"mean": pytest.approx(4), "median": 2, "std": pytest.approx(19**0.5), "values": [1, 9, 2]}
    other = {"mean": pytest.approx(20), "median": 20, "std": pytest.approx(10), "values": [10, 30, 20]}
    assert found == {
        "seeds": [5, 6, 7],
        "score": first,
        "splits": {"a": {"x": first, "y": other}, "b": {"x": other}},
    }


def test_scores_are_read_back_only_where_the_settings_agree(tmp_path: Path) -> None:
    folder, settings = FinetuneFolder(tmp_path), {"weights": "w", "splits": ["a", "b"], "training": {"lr": 0.1}}
    assert folder.read_scores("rte", 1, settings) is None
    rest = {"scores": {"validation": {"accuracy": 2.5}}, "data": {}, "training": {"seconds": 1.5}}
    folder.write_scores("rte", 1, {"score": 2.5, "settings": settings, **rest})
    found = folder.read_scores("rte", 1, {**settings, "splits": ("a", "b")})  # as JSON has it
    assert found is not None and (found["task"], found["seed"], found["score"]) == ("rte", 1, 2.5)
    with pytest.raises(UserError, match="rte-1.json was made with another weights and another training; "):
        folder.read_scores("rte", 1, {**settings, "weights": "v", "training": {"lr": 0.2}})
    text = folder.scores("rte", 1).read_text()
    folder.scores("rte", 1).write_text(text.replace("finetuned/1", "finetuned/2"))
    with pytest.raises(UserError, match="has the schema 'iit_toolkit/finetuned/2'; this version reads"):
        folder.read_scores("rte", 1, settings)
