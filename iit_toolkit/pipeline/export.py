"""One student with all that others need to verify it again, as one folder, here and on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.alignment.pyvene_io import to_json
from iit_toolkit.alignment.resolve import SideName
from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.outcomes import read_outcomes, write_outcomes
from iit_toolkit.analysis.statistics.stored_results import StoredResults, read_stored
from iit_toolkit.analysis.statistics.verdict import judge, without_controls
from iit_toolkit.config.loading import AnyRunConfig, dump_config, load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.distillation.students import student_from_checkpoint
from iit_toolkit.errors import UserError, did_you_mean, one_line
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.pipeline.networks.objects import WEIGHTS, python_files
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.student_files import copy_student, require_student_files
from iit_toolkit.pipeline.subspace_files import SUBSPACES, kept_places, kept_subspaces
from iit_toolkit.runs.folder import RunFolder, folder_written_whole, write_atomically
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.working import working_in

_FILES = {
    "alignment.yaml": "the alignment it is verified by",
    "config.yaml": "the config of the run: teacher, data and settings of the verification",
    "results.json": "every number, with its provenance",
    "outcomes.parquet": "every answer behind them",
}
_CODE = "a copy of the Python that the config names, which is not run from here"
_LEARNED = "learned subspaces of the sites, of the student and of its control"
_PYVENE = "that side of the alignment for stock pyvene, as keyword arguments of its configs"


def export(run: str | Path, output: str | Path, arm: str | None = None) -> Path:
    """Write the student of one arm with tokenizer, model card, alignment, verdict and pyvene configs to a folder.

    Args:
        run: The folder of a finished run.
        output: The folder to write; new or empty.
        arm: The arm of the student; needed if the run has several.

    Returns:
        `output`.

    Raises:
        UserError: If the run is not finished or has no such arm, its teacher cannot be loaded, or the folder is
            taken or cannot be written.
    """
    source = RunFolder.open(run)
    refuse_links_out(source.path, source.config, source.alignment, source.results, source.outcomes, source.controls)
    stored = read_stored(source.path)
    arm = chosen_arm(stored, arm)
    outcomes = read_outcomes(source.outcomes)
    has_controls = arm == stored.judged and stored.controls.absent is not None
    controls = read_outcomes(source.controls) if has_controls else None
    config = load_config(source.config)
    alignment = Alignment.from_yaml(source.alignment)
    refuse_links_out(source.path, source.arm(arm))
    weights = "config.json" if isinstance(config, RunConfig) else WEIGHTS
    if not (source.arm(arm) / weights).is_file():
        raise UserError(f"{source.arm(arm)}: the student of arm {arm} is not there; run it again")
    require_student_files(source.arm(arm))
    target = Path(output).resolve()
    with working_in(target, "the export") as made:
        made.refuse_occupied()
        learned = kept_places(alignment, arm, source.arm(arm), source.path)
        sides = _pyvene_sides(config, alignment, source, arm) if isinstance(config, RunConfig) else {}
        code = {} if isinstance(config, RunConfig) else python_files(config)
        phase(f"copying the student of {arm}")
        with folder_written_whole(target) as temporary:
            copy_student(source.arm(arm), temporary)
            others = set(stored.document["arms"]) - {arm}
            kept = cast(pd.DataFrame, outcomes[~outcomes["student"].isin(list(others))])
            folder = RunFolder(temporary)
            write_atomically(folder.config, dump_config(_for_verification(config, arm)))
            write_atomically(folder.alignment, alignment.to_yaml())
            folder.write_results(_without(stored, others, _verdict(stored, outcomes, arm)))
            write_outcomes(kept.reset_index(drop=True), folder.outcomes)
            for name, text in sides.items():
                write_atomically(temporary / name, text)
            for name, text in code.items():
                write_atomically(temporary / name, text)
            files = _FILES | dict.fromkeys(sides, _PYVENE) | dict.fromkeys(code, _CODE)
            files |= dict.fromkeys(learned, _LEARNED)
            for place in {*learned} - {SUBSPACES}:  # the student's own is in its folder
                (temporary / place).parent.mkdir(exist_ok=True)
                write_atomically(temporary / place, (source.path / place).read_bytes())
            if controls is not None:
                write_outcomes(controls, folder.controls)
                files[folder.controls.name] = "every answer of its controls"
            write_atomically(temporary / "README.md", model_card(folder.read_results(), arm, files))
    return Path(output)


def push_to_hub(folder: Path, repo: str) -> str:
    """Upload an export as a model repository, made if it does not exist; return its address.

    Endpoint and token are those of huggingface_hub: `HF_ENDPOINT`, `HF_TOKEN` or the saved login.

    Raises:
        UserError: If the repository cannot be made or written.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    phase(f"uploading to {repo}")
    try:
        for entry in folder.rglob("*"):
            refuse_links_out(folder, entry)
        api = HfApi()
        created = api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=created.repo_id, folder_path=folder, commit_message="Upload a verified student")
    except (HTTPError, OSError, ValueError) as error:  # offline, no login, no right, no such name
        reason = one_line(error)
        raise UserError(f"could not push {folder} to {repo}: {reason}; the folder is written, push it again") from error
    return str(created)


def chosen_arm(stored: StoredResults, arm: str | None = None) -> str:
    """Return the arm that is asked for, or the only one.

    Raises:
        UserError: If there is no such arm, or no choice among several.
    """
    arms = stored.document["arms"]
    if not arms:
        raise UserError(f"{stored.path}: no trained arms; give a folder that `iit-toolkit run` wrote")
    if arm is None and len(arms) > 1:
        raise UserError(f"{stored.path} has several arms, choose with --arm: {', '.join(arms)}")
    chosen = next(iter(arms)) if arm is None else arm
    if chosen not in arms:
        raise UserError(f'{stored.path} has no arm "{chosen}": {did_you_mean(chosen, arms)}')
    stored.student(chosen)
    return chosen


def _pyvene_sides(config: RunConfig, alignment: Alignment, source: RunFolder, arm: str) -> dict[str, str]:
    """Both sides as pyvene configs in JSON, by file name; none if a site reads elsewhere than it writes.

    There are none of a program either.
    """
    sites = [site for variable in alignment.variables for site in (*variable.teacher, *variable.student)]
    if any(not isinstance(site, Site) or site.read is not None for site in sites):
        return {}
    teacher = Prepared(config).teacher
    student = student_from_checkpoint(teacher, source.arm(arm))
    models: dict[SideName, PreTrainedModel] = {"teacher": teacher, "student": student}
    kept = kept_subspaces(alignment, teacher, student, arm, source.arm(arm), source.path) if alignment.learns else None
    learned = kept or (None, "")
    return {f"pyvene-{side}.json": to_json(alignment, one, side, *learned) for side, one in models.items()}


def _for_verification(config: AnyRunConfig, arm: str) -> AnyRunConfig:
    """Return the config with this arm alone; how the student was made stays, for the untrained control."""
    verification = config.verification.model_copy(update={"baseline": None, "treatment": arm})
    return config.model_copy(update={"arms": {arm: config.arms[arm]}, "verification": verification})


def _verdict(stored: StoredResults, outcomes: pd.DataFrame, arm: str) -> dict[str, Any]:
    """Return the run's verdict if it is on this arm, else one on it."""
    verdict: dict[str, Any] = stored.document["verdict"]
    if verdict["student"] == arm:
        return verdict
    settings: dict[str, Any] = {name: getattr(stored.summary, name) for name in ("resamples", "seed", "level")}
    settings |= {"margin": verdict["margin"], "measure": verdict["measure"], "learned": stored.learned}
    return without_controls(judge(outcomes, arm, **settings)).to_dict()


def _without(stored: StoredResults, arms: set[str], verdict: dict[str, Any]) -> dict[str, Any]:
    """Return the results without some arms; controls are not arms, and stay."""
    document = stored.document
    controls = document["controls"]
    if verdict["student"] != stored.judged:  # these two are the judged student's own
        controls = {**controls, "absent": None, "off_manifold": []}

    def rest(students: dict[str, Any]) -> dict[str, Any]:
        return {name: one for name, one in students.items() if name not in arms}

    learned = {"subspaces": rest(document["subspaces"])} if "subspaces" in document else {}
    chain = {"chain": [one for one in document["chain"] if one["lower"] not in arms]} if document.get("chain") else {}
    return {
        **{name: one for name, one in document.items() if name != "choices"},
        **chain,
        **learned,
        "arms": rest(document["arms"]),
        "summary": {**document["summary"], "students": rest(document["summary"]["students"])},
        "evaluation": {
            name: {**one, **{measure: rest(one[measure]) for measure in EVALUATED if measure in one}}
            for name, one in (document.get("evaluation") or {}).items()
        },
        "comparison": None,
        "controls": controls,
        "verdict": verdict,
    }
