"""Model classes of transformers by verbs: what is right, by how much, and what is refused, in which words.

Run from the repository root: `python -m benchmarks.architectures [CLASS ...]`.
Without names it tries all classes and writes `docs/model-classes.md` and `docs/model-classes.json`. With names it
prints what it finds.
Exits with 1 if anything is neither right nor refused.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.architectures import blocks, blocks_path
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.from_settings import make_objective
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange import Interchange, InterchangeModel, Swap, draw_swap, other_rows
from iit_toolkit.interchange.certify import certify
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.hooks import replaced_forward
from tests.model_classes import MODEL_CLASSES, ModelClass, make_tiny
from tests.model_rows import collator_of, rows_of
from tests.twin import capturing, gradient_difference, swapping

DOCS = Path(__file__).resolve().parents[1] / "docs"
LAYERS = (0, 2)
"""The teacher's blocks of a student."""

BOUNDS = {
    "student": 1e-6,
    "certify": 0.0,
    "answers": 1e-5,
    "gradients": 1e-3,
    "train": 1e-4,
    "verify": 0.0,
    "reload": 1e-5,
}
"""The largest difference that counts as right: rounding, of weights that are large."""

HEADER = """# Model classes

This page lists what the toolkit does with {classes} model classes of {versions}. Each class is tried as a tiny random
model with four blocks. A number means that the result is right, and gives the largest difference found. A code such as
R1 means that the toolkit refuses the class. [Refusals](#refusals) lists the messages.

* *student*: logits of a student made from blocks 0 and 2. The reference is the teacher with only these blocks active.
* *certify*: all checks of `validate` on teacher and student. A class that fails here is not run.
* *answers*: logits of a base run and of a counterfactual run at a block's output. The reference is full runs with
  hand-written hooks. Differences are relative to the largest logit.
* *gradients*: every parameter's gradient in the same runs, relative to that parameter's largest gradient.
* *train*: losses of a causal step that restarts from the base run. The reference is computed from the input. Then the
  trainer takes the step.
* *verify*: largest change of any logit under a self-swap, in a verification with a few pairs.
* *reload*: weights and logits of the student after it is saved and loaded.

If no student can be made from blocks 0 and 2, another model of the teacher's class replaces it. The column *start* says
where counterfactual runs begin. `block` means after the last block that no swap reaches. Otherwise they begin at the
input, because blocks need more than the hidden states below them. Rows have different lengths and are padded.

`python -m benchmarks.architectures` writes this page. `model-classes.json` holds the same data.
"""


def main(names: list[str]) -> int:
    """Try classes, print what is found, and write the documents if all were tried."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = {name: try_class(name) for name in names or MODEL_CLASSES}
    if not names:
        content = {"versions": {"transformers": version("transformers")}, "classes": found}
        (DOCS / "model-classes.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (DOCS / "model-classes.md").write_text(document(found), encoding="utf-8")
    print(document(found))
    faults = [f"{name}, {verb}: {said}" for name, one in found.items() for verb, said in one["faults"].items()]
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


@dataclass
class Trial:
    """One class: its models and rows."""

    made: ModelClass
    teacher: Any
    student: Any
    collate: Callable[[Any], dict[str, Tensor]]
    rows: list[dict[str, Any]]
    alignment: Alignment

    @property
    def batch(self) -> dict[str, Tensor]:
        """The first four rows."""
        return self.collate(self.rows[:4])

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What of them a model reads."""
        batch = self.batch
        return {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values") if name in batch}


def try_class(name: str) -> dict[str, Any]:
    """Try every verb on one class.

    Returns:
        `kind`, `blocks`, `start`, and by verb what is `right` (the largest difference), `refused` (the line) or among
        `faults` (what was raised, or a difference beyond rounding).
    """
    made = MODEL_CLASSES[name]
    teacher = make_tiny(name).requires_grad_(False)
    trial = Trial(made, teacher, make_tiny(name, seed=1), collator_of(made), rows_of(made), _alignment(0))
    found: dict[str, Any] = {"kind": made.kind, "blocks": "", "start": "", "right": {}, "refused": {}, "faults": {}}
    try:
        found["blocks"] = blocks_path(teacher)
    except UserError as error:
        found["refused"] = {"student": str(error), "certify": str(error)}
        return found
    for verb, attempt in VERBS.items():
        if verb == "verify" and made.rows == "pixels":  # a verification goes over rows of text
            continue
        if ("certify" in found["refused"] and verb != "reload") or (verb == "reload" and "student" in found["refused"]):
            continue
        try:
            value = attempt(trial)
        except UserError as error:
            found["refused"][verb] = str(error)
        except Exception as error:
            found["faults"][verb] = f"{type(error).__name__}: {one_line(error)}"
        else:
            found["right"][verb] = float(f"{value:.1e}")
            if not value <= BOUNDS[verb]:
                found["faults"][verb] = f"differs by {value:.1e}"
    if "certify" in found["right"]:
        found["start"] = "input" if _engine(trial).restart_blocks["v"] is None else "block"
    return found


def _alignment(layer: int) -> Alignment:
    """One variable: the output of the student's first block and of the teacher's second, or of both sides' `layer`."""
    teacher = [{"component": "block_output", "layer": layer + 1}]
    variable = {"name": "v", "teacher": teacher, "student": [{"component": "block_output", "layer": layer}]}
    return Alignment.from_dict({"name": "x", "variables": [variable]})


def _engine(trial: Trial) -> InterchangeModel:
    engine = InterchangeModel(trial.teacher, resolve(trial.alignment, trial.teacher, "teacher"))
    engine.measure(trial.inputs)
    return engine


def _swap(trial: Trial) -> Swap:
    eligible, generator = ~trial.batch["special_tokens_mask"], torch.Generator().manual_seed(0)
    source = other_rows(len(eligible), generator)
    return draw_swap(trial.alignment.positions, source, eligible, eligible, generator)


def _student(trial: Trial) -> float:
    student = student_from_teacher(trial.teacher, LAYERS).eval()
    trial.student = student
    row = {name: value[:1] for name, value in trial.inputs.items()}
    try:
        with _without_cache(trial.teacher), _handing_on(trial.teacher):
            expected = trial.teacher(**row).logits
        with _without_cache(student), torch.no_grad():
            found = student(**row).logits
    except Exception:  # certification says so, with a reason
        return 0.0
    return _difference(found, expected)


def _certify(trial: Trial) -> float:
    batch = {**trial.inputs, "special_tokens_mask": trial.batch["special_tokens_mask"]}
    made = trial.made
    refuse_failed(certify(trial.teacher, trial.student, trial.alignment, batch, task=made.task, pad=made.padding))
    return 0.0


def _answers(trial: Trial) -> float:
    (ours, theirs), _ = _by_both(trial, gradients=False)
    return max(_difference(one, other) for one, other in zip(ours, theirs, strict=True))


def _gradients(trial: Trial) -> float:
    _, (ours, theirs) = _by_both(trial, gradients=True)
    return gradient_difference(ours, theirs)


def _by_both(trial: Trial, *, gradients: bool) -> tuple[Any, Any]:
    """Return base and counterfactual logits, and the gradients of a scalar of both: the engine's, and by hand."""
    model, inputs, swap = trial.teacher, trial.inputs, _swap(trial)
    model.requires_grad_(gradients)
    try:
        engine = _engine(trial)
        base = engine.base_run(inputs, ["v"])
        changed = engine.counterfactual_run(base, "v", swap)
        ours = [engine.logits(base), engine.logits(changed)]
        place = (f"{blocks_path(model)}.1", "output")
        with _without_cache(model):
            with capturing(model, [place]) as captured:
                plain = model(**inputs).logits
            with swapping(model, place, captured[0], swap, [(0, 10**6)]):
                theirs = [plain, model(**inputs).logits]
        theirs = [one.reshape(-1, one.shape[-1]) for one in theirs]
        found = (_scalar_gradients(model, ours), _scalar_gradients(model, theirs)) if gradients else ({}, {})
        return ([one.detach() for one in ours], [one.detach() for one in theirs]), found
    finally:
        model.requires_grad_(False)


def _scalar_gradients(model: Any, logits: list[Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    total = sum((one.log_softmax(-1) * torch.randn(one.shape, generator=generator)).sum() for one in logits)
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)  # pyright: ignore
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def _train(trial: Trial) -> float:
    weights = ObjectiveWeights.causal_with_cosine().model_dump()
    settings: dict[str, Any] = {"task": trial.made.task, "weights": weights, "max_steps": 1}
    settings |= {"per_device_train_batch_size": 4, "disable_tqdm": True}
    try:
        student = student_from_teacher(trial.teacher, LAYERS).train()
    except UserError:  # another model stands in for it
        student = copy.deepcopy(trial.student).train()
    with tempfile.TemporaryDirectory() as folder:
        losses: list[float] = []
        for share_prefix in (True, False):
            config = training_config(folder, {**settings, "share_prefix": share_prefix, "save_strategy": "no"})
            objective = make_objective(student, trial.teacher, trial.alignment, config)
            losses.append(float(objective(trial.batch, [Interchange("v", _swap(trial), None, 1.0)]).total))
        before = {name: value.clone() for name, value in student.named_parameters()}
        CausalDistillationTrainer(
            student,
            trial.teacher,
            trial.alignment,
            training_config(folder, {**settings, "save_strategy": "no", "learning_rate": 1e-3, "warmup_steps": 0}),
            train_dataset=trial.rows,  # pyright: ignore[reportArgumentType]
            data_collator=trial.collate,
        ).train()
    if all(torch.equal(value, before[name]) for name, value in student.named_parameters()):
        raise RuntimeError("a step changes no weight")
    return abs(losses[0] - losses[1]) / abs(losses[1])


def _verify(trial: Trial) -> float:
    found = verify(
        trial.teacher,
        {"student": trial.student},
        trial.alignment,
        trial.rows,
        trial.collate,
        task=trial.made.task,  # pyright: ignore[reportArgumentType]
        pairs=8,
        batch_size=4,
    )
    if not len(found.outcomes) or found.ceiling.same != found.ceiling.cases:
        raise RuntimeError("the teacher does not answer as itself")
    return found.self_swap.max_difference


def _reload(trial: Trial) -> float:
    row = {name: value[:1] for name, value in trial.inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        trial.student.save_pretrained(folder)
        loaded = type(trial.student).from_pretrained(folder).eval()
    own, again = trial.student.state_dict(), loaded.state_dict()
    made_anew = getattr(trial.student, "_keys_to_ignore_on_save", None) or ()  # such as sinusoids
    saved = [name for name, value in (own | again).items() if value.numel() and name not in made_anew]
    weights = max(float((own[name].double() - again[name].double()).abs().max()) for name in saved)
    try:
        with torch.no_grad(), _without_cache(trial.student), _without_cache(loaded):
            return max(weights, _difference(loaded(**row).logits, trial.student.eval()(**row).logits))
    except ValueError:  # it asks for more than rows; certification says so
        return weights


VERBS: dict[str, Callable[[Trial], float]] = {
    "student": _student,
    "certify": _certify,
    "answers": _answers,
    "gradients": _gradients,
    "train": _train,
    "verify": _verify,
    "reload": _reload,
}


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@contextlib.contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Run a model by hand as the engine does."""
    kept = getattr(model.config, "use_cache", None)
    model.config.use_cache = False
    yield
    model.config.use_cache = kept


@contextlib.contextmanager
def _handing_on(model: Any) -> Iterator[None]:
    """Let only the student's blocks compute, without gradient; the others pass on what they are given."""

    def handing_on(forward: Any) -> Any:
        def hand_on(*args: Any, **named: Any) -> Any:
            output, hidden = forward(*args, **named), args[0] if args else named["hidden_states"]
            if isinstance(output, dict):
                return {**output, next(iter(output)): hidden}
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hand_on

    others = [block for layer, block in enumerate(blocks(model)) if layer not in LAYERS]
    with contextlib.ExitStack() as replaced, torch.no_grad():
        for block in others:  # some models call `forward` itself, and no hook fires
            replaced.enter_context(replaced_forward(block, handing_on(block.forward)))
        yield


def document(found: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown document of what was found."""
    lines: dict[str, str] = {}
    rows = [
        f"| {name} | {one['kind']} | {one['blocks'] or 'none found'} | {one['start'] or '-'} | "
        + " | ".join(_cell(one, verb, lines) for verb in VERBS)
        + " |"
        for name, one in found.items()
    ]
    table = [
        f"| class | kind | blocks | start | {' | '.join(VERBS)} |",
        f"|---|---|---|---|{'--:|' * len(VERBS)}",
        *rows,
    ]
    refusals = [f"* **{letter}** {line}" for line, letter in lines.items()]
    head = HEADER.format(classes=len(found), versions=f"transformers {version('transformers')}")
    return "\n".join([head, *table, "", "## Refusals", "", *refusals, ""])


def _cell(one: dict[str, Any], verb: str, lines: dict[str, str]) -> str:
    if verb in one["faults"]:
        return f"FAULT {one['faults'][verb]}"
    if verb in one["refused"]:
        return lines.setdefault(one["refused"][verb], f"R{len(lines) + 1}")
    if verb not in one["right"]:
        return "-"
    return "right" if verb == "certify" else f"{one['right'][verb]:.0e}" if one["right"][verb] else "0"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
