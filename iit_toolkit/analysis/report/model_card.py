"""The model card of a trained student: metadata for the Hub, what was measured, the verdict, the limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.report.tables import COLUMNS, changed_cases, headed
from iit_toolkit.analysis.statistics.input_words import NETWORKS, InputWords, words_for
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import decimal, first_upper, interval
from iit_toolkit.analysis.statistics.summary import StudentSummary, Summary
from iit_toolkit.analysis.statistics.verdict import SCOPE, Verdict
from iit_toolkit.errors import UserError

_TAGS = ["iit-toolkit", "causal-abstraction", "interchange-intervention", "knowledge-distillation"]
_LONGEST_HUB_NAME = 96


@dataclass(frozen=True)
class _Use:
    """How a student of a task is used: its kind on the Hub, the class that loads it, a text and the line that asks."""

    pipeline: str
    auto_class: str
    text: str
    answer: str


_USES = {
    "masked_lm": _Use(
        "fill-mask",
        "AutoModelForMaskedLM",
        'f"The list is {tokenizer.mask_token}."',
        'print(tokenizer.decode(model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id].argmax(-1)))',
    ),
    "causal_lm": _Use(
        "text-generation",
        "AutoModelForCausalLM",
        '"Once upon a time"',
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))",
    ),
    "sequence_classification": _Use(
        "text-classification",
        "AutoModelForSequenceClassification",
        '"A sentence of the task."',
        "print(model.config.id2label[int(model(**inputs).logits.argmax())])",
    ),
    "token_classification": _Use(
        "token-classification",
        "AutoModelForTokenClassification",
        '"Words of the task.".split(), is_split_into_words=True',
        "print([model.config.id2label[int(tag)] for tag in model(**inputs).logits[0].argmax(-1)])",
    ),
}
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def model_card(results: dict[str, Any], arm: str, files: Mapping[str, str] | None = None) -> str:
    """Write the card (README.md) of one arm's student.

    Args:
        results: The content of results.json.
        arm: Which student; it must have been verified.
        files: What else is in an exported folder, by name; the card then says how to verify the folder.

    Returns:
        Markdown with YAML metadata: library, base model, licence, use, tags and, as `model-index`, the measured values.

    Raises:
        UserError: If the results hold no such arm, or nothing was measured of it.
    """
    summary = Summary.from_dict(results["summary"])
    if arm not in results["arms"] or arm not in summary.students:
        raise UserError(f'no verified arm "{arm}" in the results; there are: {", ".join(results["arms"])}')
    student = summary.students[arm]
    use = _USES.get(str(results.get("task")))
    of_text, words = results.get("task") != NETWORKS, words_for(results["task"])
    metadata = {
        "library_name": "transformers" if of_text else "pytorch",
        **(_base_model(results["teacher"]["name"]) if of_text else {}),
        **_licence(results["teacher"]["name"]),
        **({} if use is None else {"pipeline_tag": use.pipeline}),
        "tags": _TAGS,
        "model-index": [{"name": f"{results['name']} ({arm})", "results": _index(results, student)}],
    }
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---",
        f"# {markdown_cell(results['name'])}: {arm}",
        _origin(results, arm),
        *([] if use is None else [_usage(use, two_sentences=_two_sentences(results))]),
        "## Verdict",
        _verdict(Verdict.from_dict(results["verdict"]), arm),
        _table(student, _accuracy(results, arm), words, of_text=of_text),
        f"Intervals ({summary.level:.0%}) are Wilson's for shares, at the effective number of cases, "
        f"and bootstraps over the {words.texts} of bases and sources for all else. "
        f"{first_upper(MEASURES['effect_r2'].title)}: {MEASURES['effect_r2'].caption} "
        f"KL recovered: {MEASURES['kl_recovered'].caption} "
        "Effective IIA is the "
        "share of cases with the same answer of student and teacher, both intervened, where the intervention "
        "changes the teacher's answer; "
        f"{'outside: at positions that are not swapped; ' if words.region else ''}floor: the student's "
        "answer without intervention. Read effective IIA only against its floor.",
        *([] if files is None else [_how_to_verify(results, files)]),
        "## Limits",
        f"{SCOPE} One training seed; the student inherits the limits and biases of its teacher and its data.",
        _about_licence(results["teacher"]["name"]),
    ]
    return "\n\n".join(parts) + "\n"


def _two_sentences(results: dict[str, Any]) -> bool:
    return any(one.get("sentences") for one in results["data"].values())


def _usage(use: _Use, *, two_sentences: bool) -> str:
    """Return how the student is loaded and asked, as any model of transformers."""
    text = '"The first sentence.", "The second sentence."' if two_sentences else use.text
    return (
        "## Use\n\n"
        "```python\n"
        f"from transformers import AutoTokenizer, {use.auto_class}\n\n"
        'folder = "path/to/this/folder"  # or its name on the Hub\n'
        f"tokenizer, model = AutoTokenizer.from_pretrained(folder), {use.auto_class}.from_pretrained(folder)\n"
        f'inputs = tokenizer({text}, return_tensors="pt")\n'
        f"{use.answer}\n"
        "```"
    )


def _licence(name: str) -> dict[str, str]:
    """Return the licence, if the toolkit's own teacher makes it known."""
    return {"license": "apache-2.0"} if name == "embedded" else {}


def _about_licence(name: str) -> str:
    if name == "embedded":
        return "Licence: Apache 2.0, as its teacher."
    return "Licence: none is set here. The student derives from its teacher and its data; set one that both allow."


def _base_model(name: str) -> dict[str, str]:
    """Return the teacher as `base_model`, where its name can be one on the Hub.

    A path of this machine cannot, nor `embedded`, which is the toolkit's own.
    """
    return {"base_model": name} if name != "embedded" and _may_be_on_the_hub(name) else {}


def _may_be_on_the_hub(name: str) -> bool:
    return len(name) <= _LONGEST_HUB_NAME and bool(_HUB_NAME.fullmatch(name)) and not Path(name).exists()


def _origin(results: dict[str, Any], arm: str) -> str:
    details = results["arms"][arm]
    objective = " + ".join(f"{weight:g} {markdown_cell(term)}" for term, weight in details["objective"].items())
    alignment = f"alignment {markdown_cell(details['alignment'])}" if details["alignment"] else "no interventions"
    teacher = results["teacher"]["name"]
    shown = teacher if _may_be_on_the_hub(teacher) else "a local model"
    if results.get("task") == NETWORKS:
        return (
            f"A network of torch, taught by {markdown_cell(teacher)}: {details['student_parameters']:,} parameters, "
            f"{details['steps']:,} steps of {details['effective_batch']:,} rows, {alignment}, objective {objective}, "
            f"seed {results['seed']}. Its weights are in `model.safetensors`; the function that makes the network is "
            f"named in the run's config.yaml. Commit {markdown_cell(results['provenance']['git_commit'] or 'unknown')}."
        )
    return (
        f"Distilled from {shown} ({results['teacher']['parameters']:,} parameters) into "
        f"{details['student_parameters']:,} parameters: {details['steps']:,} steps, "
        f"{details['tokens']:,} tokens, {alignment}, objective {objective}, seed {results['seed']}. "
        f"Commit {markdown_cell(results['provenance']['git_commit'] or 'unknown')}."
    )


def _verdict(verdict: Verdict, arm: str) -> str:
    if verdict.student != arm:
        return (
            f"The verdict of this run is on {markdown_cell(verdict.student)} ({verdict.label}), not on this student, "
            "which it is compared with."
        )
    return f"**{verdict.label}**\n\n{markdown_cell(verdict.sentence)}"


def _how_to_verify(results: dict[str, Any], files: Mapping[str, str]) -> str:
    version = results["provenance"]["versions"].get("iit_toolkit")
    listed = "\n".join(f"* `{name}`: {content}" for name, content in files.items())
    elsewhere = "Where teacher or data lie elsewhere, add `teacher=...` or `data.path=...`."
    if results.get("task") == NETWORKS:
        elsewhere = (
            "It executes the Python files that config.yaml names, from the working directory on. Where they lie "
            "elsewhere, add `teacher.program=...`, `student.network=...` and `data.path=...`."
        )
    return (
        "## Verify it yourself\n\n"
        f"With iit_toolkit{f' {markdown_cell(str(version))}' if version else ''} installed:\n\n"
        "```bash\niit-toolkit verify --from path/to/this/folder\n```\n\n"
        "It runs the same interventions on this student and its teacher, and says whether every answer is as in "
        f"`outcomes.parquet`. {elsewhere}\n\n" + listed
    )


def _accuracy(results: dict[str, Any], arm: str) -> float | None:
    """Return a student's accuracy on the first held-out set, if it was measured."""
    for one in (results.get("evaluation") or {}).values():
        if one.get("accuracy"):
            return one["accuracy"][arm]["value"]
    return None


def _table(student: StudentSummary, accurate: float | None, words: InputWords, *, of_text: bool) -> str:
    heads = ["variable", *(column.heading for column in headed(COLUMNS, words)), "changed cases"]
    rows = [
        [name, *(column.cell(one) for column in COLUMNS), changed_cases(one)] for name, one in student.variables.items()
    ]
    behaviour = student.behaviour
    if accurate is not None or not of_text:
        told = "" if accurate is None else f" Accuracy on held-out rows: {decimal(accurate)}."
        return f"{markdown_table(heads, rows)}\n\nKL to the teacher: {interval(behaviour.kl)} nats.{told}"
    lines = [
        markdown_table(heads, rows),
        "",
        f"KL to the teacher: {interval(behaviour.kl)} nats. "
        f"Perplexity: {interval(behaviour.student_perplexity, 2, of='gold answers')}; "
        f"teacher: {interval(behaviour.teacher_perplexity, 2, of='gold answers')}.",
    ]
    return "\n".join(lines)


def _index(results: dict[str, Any], student: StudentSummary) -> list[dict[str, Any]]:
    metrics: list[dict[str, Any]] = []
    where = ", outside" if words_for(results["task"]).region else ""

    def add(kind: str, name: str, value: float | None) -> None:
        if value is not None:
            metrics.append({"type": kind, "name": name, "value": round(value, 4)})

    for name, one in student.variables.items():
        for measure in ("effect_r2", "kl_recovered"):
            if getattr(one, measure) is not None:
                found, title = one.estimate(measure), MEASURES[measure].title
                add(measure, f"{title}{where} ({name})", found.value)
                add(f"{measure}_low", f"{title}{where}, lower end ({name})", found.low)
        effective = one.estimate("effective_iia")
        add("effective_iia", f"effective IIA{where} ({name})", effective.value)
        add("effective_iia_low", f"effective IIA{where}, lower end ({name})", effective.low)
        add("no_intervention_floor", f"no-intervention floor{where} ({name})", one.estimate("effective_floor").value)
        add("iia", f"IIA ({name})", one.estimate("iia", "all").value)
    add("agreement", "agreement with the teacher, without intervention", student.behaviour.top1_agreement.value)
    if results.get("task") != NETWORKS:
        add("perplexity", "perplexity", student.behaviour.student_perplexity.value)
    if not metrics:
        return []
    return [
        {
            "task": {"type": "other", "name": "interchange interventions"},
            "dataset": {"type": "other", "name": f"{list(results['data'])[-1]} split of the run"},
            "metrics": metrics,
        }
    ]
