"""The report of a verification in Python, whose models and rows are in memory."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from iit_toolkit.analysis.report.examples import Answers, write_answers
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics.control_results import ControlResults
from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.config.task import FACTS
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError, shown
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.pipeline.networks.facts import facts_of_program, write_inputs_read
from iit_toolkit.pipeline.networks.prepare import program_variables
from iit_toolkit.pipeline.networks.rows import HELD_OUT, fingerprint_of_tensors
from iit_toolkit.pipeline.texts import answer_ids, class_texts, token_texts, write_read_examples
from iit_toolkit.runs.folder import RunFolder, write_atomically
from iit_toolkit.runs.provenance import fingerprint_of_json, provenance

if TYPE_CHECKING:
    from iit_toolkit.pipeline.checked import Check


def write_checked(check: Check, path: str | Path) -> Path:
    """Write the report of a verification as one self-contained page, and return its path.

    Raises:
        UserError: If the name does not end in .html, no student was judged, the file cannot be written, or the teacher
            is neither a model of transformers nor was verified on rows of numbers.
    """
    if Path(path).suffix not in (".html", ".htm"):
        raise UserError(f"{shown(str(path))}: the report is a page of HTML; give a name that ends in .html")
    if check.rows is None and not isinstance(check.teacher, PreTrainedModel):
        raise UserError(
            "this report needs to know its rows: verify on TensorRows, or give a model of transformers as the teacher; "
            "to_frame() and plot work with any"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run")
        folder.path.mkdir()
        write_outcomes(check.outcomes, folder.outcomes)
        if check.controls is not None:
            write_outcomes(check.controls, folder.controls)
        if check.choices is not None:
            write_outcomes(check.choices, folder.choices)
        told = _of_texts(check, folder) if check.rows is None else _of_numbers(check, check.rows, folder)
        folder.write_results({**_common(check), **told})
        write_atomically(Path(path), write_report(folder.path, "html").read_bytes())
    return Path(path)


def _common(check: Check) -> dict[str, Any]:
    """Return what `results.json` says of every verification."""
    assert check.alignment is not None
    controls = ControlResults(check.self_swap, check.ceiling, list(check.absent), list(check.off_manifold))
    return {
        "name": check.alignment.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "seed": check.seed,
        "alignment": check.alignment.to_dict(),
        **({"subspaces": dict(check.subspaces)} if check.subspaces else {}),
        "arms": {},
        "summary": check.summary.to_dict(),
        **({} if (among := check.among_candidates) is None else {"choices": among.to_dict()}),
        "controls": asdict(controls),
        "evaluation": {},
        "comparison": None,
        "verdict": asdict(check.verdict),
    }


def _of_texts(check: Check, folder: RunFolder) -> dict[str, Any]:
    """Write the texts, if there is a tokenizer, and return what results say of them and of the teacher."""
    assert isinstance(check.teacher, PreTrainedModel)
    if check.tokenizer is not None:
        write_read_examples(folder, check, check.tokenizer, {})
        answers = answer_ids(check)
        classes = FACTS[check.task].classes
        texts = class_texts(check.teacher, answers) if classes else token_texts(check.tokenizer, answers)
        write_answers(Answers(texts, {}, HELD_OUT), folder.answers)
    tokens = check.examples["base_tokens"]
    config = check.teacher.config
    return {
        "task": check.task,
        "data": {
            HELD_OUT: {
                "examples": len(check.examples),
                "tokens": int(sum(len(one) for one in tokens)),
                "fingerprint": fingerprint_of_json([one.tolist() for one in tokens]),
            }
        },
        "teacher": {
            "name": str(getattr(config, "name_or_path", "")) or type(check.teacher).__name__,
            "parameters": check.teacher.num_parameters(),
        },
        "blocks": check.blocks,
    }


def _of_numbers(check: Check, rows: TensorRows, folder: RunFolder) -> dict[str, Any]:
    """Write the inputs, and return what results say of them and of a program or network that teaches."""
    assert check.alignment is not None
    teacher = check.teacher
    program = teacher if isinstance(teacher, CausalModel) else None
    variables = program_variables(check.alignment)
    write_inputs_read(folder, check, rows, program, check.alignment)
    name = type(teacher).__name__ if program is None else program.answer
    return {
        "task": NETWORKS,
        "data": {HELD_OUT: {"examples": len(rows), "tokens": 0, "fingerprint": fingerprint_of_tensors(rows)}},
        "teacher": {
            "name": name,
            "parameters": sum(one.numel() for one in teacher.parameters()) if isinstance(teacher, nn.Module) else 0,
        },
        **({} if program is None else {"program": facts_of_program(name, program, rows, variables)}),
    }
