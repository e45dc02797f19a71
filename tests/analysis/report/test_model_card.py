from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertLMHeadModel

from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_controls, make_outcomes, make_results
from tests.downstream.tiny import tiny_tokenizer
from tests.families import bert_config

SMALL = bert_config(vocab_size=64)
DECODER = BertConfig(**{**SMALL.to_dict(), "is_decoder": True})


def test_the_card_is_valid_for_the_hub_and_holds_the_measured_values():
    results = make_results(make_outcomes(), controls=make_controls())
    card = ModelCard(model_card(results, "causal"))
    assert card.data.library_name == "transformers"
    assert card.data.base_model == "example/teacher-12l"
    assert "causal-abstraction" in card.data.tags and card.data.pipeline_tag == "fill-mask"
    assert card.data.license is None and "Licence: none is set here." in card.text
    found = {one.metric_name: one.metric_value for one in card.data.eval_results}
    measured = results["summary"]["students"]["causal"]["variables"]["middle"]
    assert found["effective IIA, outside (middle)"] == round(measured["effective_iia"]["outside"]["value"], 4)
    assert found["effective IIA, outside, lower end (middle)"] == round(measured["effective_iia"]["outside"]["low"], 4)
    assert found["perplexity"] == pytest.approx(8.0 - 4 * 0.6)
    assert found["IIA (middle)"] == round(measured["iia"]["all"]["value"], 4)
    assert "**SUPPORTED**" in card.text
    assert results["verdict"]["scope"] in card.text


def test_an_arm_that_was_not_judged_does_not_borrow_the_verdict():
    card = model_card(make_results(make_outcomes(), controls=make_controls()), "plain")
    assert "**SUPPORTED**" not in card
    assert "on causal (SUPPORTED), not on this student" in card


@pytest.mark.parametrize("name", ["/home/someone/models/teacher", "x" * 97, "x" * 5000])
def test_a_path_of_this_machine_is_not_published(name):
    results = make_results(make_outcomes(bases=30))
    results["teacher"]["name"] = name
    card = model_card(results, "causal")
    assert name not in card
    assert ModelCard(card).data.base_model is None


def test_a_folder_that_is_named_as_a_model_of_the_hub_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packed" / "teacher").mkdir(parents=True)
    results = make_results(make_outcomes(bases=30))
    results["teacher"]["name"] = "packed/teacher"
    card = model_card(results, "causal")
    assert "packed/teacher" not in card and "Distilled from a local model" in card


def test_the_embedded_teacher_is_no_model_of_the_hub():
    results = make_results(make_outcomes(bases=30))
    results["teacher"]["name"] = "embedded"
    card = model_card(results, "causal")
    assert "Distilled from embedded" in card and ModelCard(card).data.base_model is None
    assert ModelCard(card).data.license == "apache-2.0"


def test_without_changed_cases_the_card_still_stands():
    card = ModelCard(model_card(make_results(make_outcomes(changed=0.0, bases=30)), "causal"))
    assert "n/a (no changed cases)" in card.text
    names = [one.metric_name for one in card.data.eval_results]
    assert names == ["IIA (middle)", "agreement with the teacher, without intervention", "perplexity"]


def test_unknown_arm():
    with pytest.raises(UserError, match='no verified arm "clausal" in the results; there are: causal, plain'):
        model_card(make_results(make_outcomes(bases=30)), "clausal")


def test_the_card_of_an_export_says_how_to_verify_it():
    results = make_results(make_outcomes(bases=30))
    assert "Verify it yourself" not in model_card(results, "causal")
    results["provenance"]["versions"]["iit_toolkit"] = "1.2.3"
    card = model_card(results, "causal", {"alignment.yaml": "the alignment"})
    assert "With iit_toolkit 1.2.3 installed:\n\n```bash\niit-toolkit verify --from " in card
    assert "* `alignment.yaml`: the alignment\n" in card
    assert ModelCard(card).data.library_name == "transformers"


@pytest.mark.parametrize(
    ("task", "pipeline", "make"),
    [
        ("masked_lm", "fill-mask", lambda: BertForMaskedLM(SMALL)),
        ("sequence_classification", "text-classification", lambda: BertForSequenceClassification(SMALL)),
        (
            "causal_lm",
            "text-generation",
            lambda: BertLMHeadModel(DECODER),
        ),
    ],
)
def test_the_lines_of_use_run(task: str, pipeline: str, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results = make_results(make_outcomes(bases=30))
    results["task"] = task
    card = model_card(results, "causal")
    assert ModelCard(card).data.pipeline_tag == pipeline
    make().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(tmp_path))
    capsys.readouterr()
    exec(code, {})
    assert "\n" in capsys.readouterr().out


def test_a_task_that_is_unknown_has_no_lines_of_use():
    results = make_results(make_outcomes(bases=30))
    results["task"] = ["?"]
    assert "## Use" not in model_card(results, "causal")
