from __future__ import annotations

import json
from pathlib import Path

import pytest

from iit_toolkit.analysis.studies.listing import list_runs
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_run


def test_unlike_runs_are_listed_with_what_they_came_to(tmp_path: Path) -> None:
    make_run(tmp_path / "a", make_outcomes({"causal": 0.8, "plain": 0.2, "untrained": 0.1}, bases=40))
    make_run(tmp_path / "deep" / "b" / "c", make_outcomes({"causal": 0.0, "plain": 0.2, "untrained": 0.5}))
    document = json.loads((tmp_path / "a" / "results.json").read_text())
    (tmp_path / "a" / "results.json").write_text(json.dumps({**document, "created": "2027-01-01T00:00:00+00:00"}))
    for name, text in {"begun/config.yaml": "name: x\n", "damaged/results.json": "{"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "notes").mkdir()
    found = {run.folder.relative_to(tmp_path).as_posix(): run for run in list_runs(tmp_path)}
    assert list(found) == ["a", "deep/b/c", "begun", "damaged"]
    one = found["a"]
    assert (one.student, one.measure, one.created[:4]) == ("causal", "effect_r2", "2027")
    assert one.verdict == document["verdict"]["label"]
    assert one.score == document["verdict"]["variables"]["middle"]["score"]["value"]
    assert one.kl == document["summary"]["students"]["causal"]["behaviour"]["kl"]["value"]
    assert found["deep/b/c"].verdict == "NOT SUPPORTED"
    assert (found["begun"].verdict, found["begun"].score) == ("no results", None)
    assert found["damaged"].verdict == "damaged, or of another version"
    with pytest.raises(UserError, match="is no folder"):
        list_runs(tmp_path / "nowhere")
