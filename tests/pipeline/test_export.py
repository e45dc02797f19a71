"""The exported student: what is in its folder, and that it is verified again with equal numbers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pyvene as pv
import torch
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.pyvene_io import stock_arguments
from iit_toolkit.analysis.statistics.outcomes import read_outcomes, write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.cli import main
from iit_toolkit.config.loading import ASSETS, load_config
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from iit_toolkit.pipeline import export, push_to_hub, verify_export
from iit_toolkit.runs.folder import RunFolder
from tests.analysis.synthetic import make_outcomes
from tests.embedded import in_real_use
from tests.pipeline.hub import fake_hub
from tests.pipeline.test_run import TINY, call
from tests.pipeline.test_run import finished as finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run on a short text file, which loads faster than Python's documentation."""
    folder = tmp_path_factory.mktemp("runs") / "python-docs"
    call("run", "python-docs", short_text(tmp_path_factory.mktemp("text")), *TINY, "-o", str(folder))
    return folder


def short_text(folder: Path) -> str:
    line = "the module returns the {} {} of the {} and raises an error if the {} is closed\n"
    nouns = ["value", "file", "list", "string", "class", "object", "name"]
    files = {split: folder / f"{split}.txt" for split in ("train", "validation")}
    for file, word in zip(files.values(), ("first", "last"), strict=True):
        drawn = [[nouns[(index * step + step) % 7] for step in (1, 2, 3)] for index in range(18)]
        file.write_text("".join(line.format(word, *three) for three in drawn))
    named = ", ".join(f"{split}: '{file}'" for split, file in files.items())
    return f"data={{path: text, data_files: {{{named}}}, packing: false}}"


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "causal"
    assert call("export", str(run), "--arm", "causal", "-o", str(folder)) == f"{folder}\n"
    return folder


def results(folder: Path) -> dict[str, Any]:
    return RunFolder(folder).read_results()


def test_every_file_is_there_and_no_other(run: Path, exported: Path) -> None:
    toolkit = {"alignment.yaml", "config.yaml", "results.json", "outcomes.parquet", "controls.parquet"}
    pyvene = {"pyvene-teacher.json", "pyvene-student.json"}
    assert {path.name for path in exported.iterdir()} == {path.name for path in (run / "causal").iterdir()} | (
        toolkit | pyvene
    )
    assert [path.name for path in exported.parent.iterdir()] == ["causal"]


def test_student_tokenizer_and_alignment_are_those_of_the_run(run: Path, exported: Path) -> None:
    for part, path in (("student", exported), ("trained", run / "causal")):
        assert AutoTokenizer.from_pretrained(path).get_vocab(), part
    weights = [AutoModelForMaskedLM.from_pretrained(path).state_dict() for path in (exported, run / "causal")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert Alignment.from_yaml(exported / "alignment.yaml") == Alignment.from_yaml(run / "alignment.yaml")


def test_verdict_and_outcomes_are_of_this_student_and_its_control_only(run: Path, exported: Path) -> None:
    before, after = results(run), results(exported)
    assert set(after["arms"]) == {"causal"} and after["comparison"] is None
    assert set(after["summary"]["students"]) == {"causal", "untrained"}
    assert after["verdict"] == before["verdict"]
    table = read_outcomes(run / "outcomes.parquet")
    expected = table[table["student"] != "plain"].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_outcomes(exported / "outcomes.parquet"), expected)


def test_an_arm_that_the_run_did_not_judge_gets_a_verdict_of_its_own(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "plain", "plain")
    after = results(tmp_path / "plain")
    assert set(after["summary"]["students"]) == {"plain", "untrained"}
    summary = results(run)["summary"]
    outcomes = read_outcomes(run / "outcomes.parquet")
    verdict = judge(outcomes, "plain", margin=0.05, resamples=summary["resamples"], seed=summary["seed"])
    assert verdict.label != "SUPPORTED" and after["verdict"] == json.loads(json.dumps(verdict.to_dict()))
    assert not (tmp_path / "plain" / "controls.parquet").exists()
    assert "controls.parquet" not in (tmp_path / "plain" / "README.md").read_text()
    call("report", str(tmp_path / "plain"))
    report = (tmp_path / "plain" / "report.md").read_text()
    assert "stale" not in report and "They were not run for plain; verify it again to have them." in report
    assert verify_export(tmp_path / "plain", tmp_path / "again").same
    assert set(read_outcomes(tmp_path / "again" / "controls.parquet")["student"]) > {"wrong layer"}
    assert "wrong layer" in (tmp_path / "again" / "report.md").read_text()


def test_a_student_whose_controls_were_not_run_is_not_supported(run: Path, tmp_path: Path) -> None:
    """Planted answers pass the two controls that a run has of all its students."""
    shutil.copytree(run, tmp_path / "run")
    planted = make_outcomes(bases=60)
    planted["student"] = planted["student"].map({"causal": "plain", "plain": "causal", "untrained": "untrained"})
    assert judge(planted, "plain", resamples=200).label == "SUPPORTED"
    write_outcomes(planted, tmp_path / "run" / "outcomes.parquet")
    document = results(tmp_path / "run")
    document["summary"] = summarise(planted, resamples=200, seed=document["summary"]["seed"]).to_dict()
    (tmp_path / "run" / "results.json").write_text(json.dumps(document))
    export(tmp_path / "run", tmp_path / "plain", "plain")
    verdict = results(tmp_path / "plain")["verdict"]
    assert verdict["label"] == "INCONCLUSIVE"
    assert {one["label"] for one in verdict["variables"].values()} == {"INCONCLUSIVE"}
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "**INCONCLUSIVE**" in card and "The other controls were not run" in card and "**SUPPORTED" not in card
    call("report", str(tmp_path / "plain"))
    report = (tmp_path / "plain" / "report.md").read_text()
    assert "**INCONCLUSIVE**" in report and "**SUPPORTED" not in report and "stale" not in report


def test_the_report_of_an_export_gives_the_verdict_of_the_run(run: Path, exported: Path, tmp_path: Path) -> None:
    folder = copy(exported, tmp_path / "exported")
    call("report", str(folder), "--format", "json")
    assert json.loads((folder / "report.json").read_text())["verdict"] == results(run)["verdict"]


def test_a_run_that_lost_its_controls_is_not_exported(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("controls.parquet"))
    with pytest.raises(UserError, match="controls.parquet: no outcomes table there"):
        export(tmp_path / "run", tmp_path / "out", "causal")
    assert not (tmp_path / "out").exists()


def test_the_card_is_valid_for_the_hub_and_says_how_to_verify(exported: Path) -> None:
    card = ModelCard((exported / "README.md").read_text())
    assert card.data.eval_results and "effective_iia_low" in {one.metric_type for one in card.data.eval_results}
    assert "iit-toolkit verify --from " in card.text
    for file in ("alignment.yaml", "pyvene-teacher.json", "pyvene-student.json"):
        assert f"* `{file}`: " in card.text


def test_a_run_is_verified_again_with_equal_numbers(finished: tuple[Path, str], tmp_path: Path) -> None:
    run, exported, again = finished[0], tmp_path / "exported", tmp_path / "again"
    with in_real_use():
        call("export", str(run), "--arm", "causal", "-o", str(exported))
        lines = call("verify", "--from", str(exported), "-o", str(again)).splitlines()
    cases = len(read_outcomes(exported / "outcomes.parquet")) // 2  # of the student and of the untrained control
    assert lines[-1] == f"REPRODUCED: the answers in all {cases} cases are those of the export."
    pd.testing.assert_frame_equal(
        read_outcomes(again / "outcomes.parquet"), read_outcomes(exported / "outcomes.parquet"), check_exact=True
    )
    for folder in (run, again):
        pd.testing.assert_frame_equal(
            read_outcomes(folder / "controls.parquet"), read_outcomes(exported / "controls.parquet"), check_exact=True
        )
    ours, theirs, first = results(exported), results(again), results(run)
    for part in ("alignment", "teacher", "summary", "verdict", "evaluation"):
        assert theirs[part] == ours[part], part
    for part in ("ceiling", "absent", "off_manifold"):
        assert theirs["controls"][part] == ours["controls"][part] == first["controls"][part], part
    assert theirs["data"]["validation"] == first["data"]["validation"]
    assert theirs["summary"]["students"]["causal"] == first["summary"]["students"]["causal"]
    assert theirs["verdict"] == first["verdict"]
    assert theirs["controls"]["self_swap"]["changed"] == 0


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_another_student_is_told(exported: Path, tmp_path: Path) -> None:
    forged = copy(exported, tmp_path / "forged")
    weights = load_file(exported / "model.safetensors")
    other = {name: weight.flip(0).contiguous() for name, weight in weights.items()}
    save_file(other, forged / "model.safetensors", {"format": "pt"})
    printed = call("verify", "--from", str(forged), "-o", str(tmp_path / "out"), "--json")
    document = json.loads(printed)
    assert (document["folder"], document["reproduced"]) == (str(tmp_path / "out"), False)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=43", "NOT REPRODUCED: other cases were verified ("),
        ("data.max_length=16", "NOT REPRODUCED: the held-out data are other than those of the export (sha256:"),
    ],
)
def test_other_settings_are_told(exported: Path, tmp_path: Path, override: str, said: str) -> None:
    lines = call("verify", "--from", str(exported), override, "-o", str(tmp_path / "out")).splitlines()
    assert lines[-1].startswith(said)


def test_one_forged_answer_is_told(exported: Path, tmp_path: Path) -> None:
    forged = copy(exported, tmp_path / "forged")
    table = read_outcomes(forged / "outcomes.parquet")
    table.loc[0, "student_cf"] += 1
    write_outcomes(table, forged / "outcomes.parquet")
    verified = verify_export(forged, tmp_path / "out")
    assert not verified.same and verified.sentence.startswith("NOT REPRODUCED: answers differ in 1 of ")


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_stock_pyvene_makes_the_same_counterfactual_from_the_json(
    exported: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher" if side == "teacher" else exported).eval()
    ids = torch.randint(5, 5000, (4, 12), generator=torch.Generator().manual_seed(0))
    source, positions = torch.tensor([1, 2, 3, 0]), torch.tensor([[2, 5], [1, 7], [4, 3], [6, 2]])
    taken = torch.tensor([[3, 9], [8, 1], [2, 10], [5, 4]])
    alignment = Alignment.from_yaml(exported / "alignment.yaml")
    with torch.no_grad():
        engine = InterchangeModel(model, resolve(alignment, model, side))  # pyright: ignore[reportArgumentType]
        base = engine.base_run({"input_ids": ids}, ["middle"])
        mask = torch.zeros(4, 12, dtype=torch.bool).scatter(1, positions, True)
        swap = Swap(source, mask, torch.zeros(4, 12, dtype=torch.long).scatter(1, positions, taken))
        ours = engine.logits(engine.counterfactual_run(base, "middle", swap))

        monkeypatch.delitem(pv.type_to_dimension_mapping, type(model), raising=False)
        document = json.loads((exported / f"pyvene-{side}.json").read_text())
        config = pv.IntervenableConfig(
            [
                pv.RepresentationConfig(
                    **entry, intervention=pv.VanillaIntervention(subspace_partition=entry["subspace_partition"])
                )
                for entry in document["representations"]
            ]
        )
        arguments = stock_arguments(config, document["variables"].index("middle"), (taken, positions))
        theirs = pv.IntervenableModel(config, model)({"input_ids": ids}, [{"input_ids": ids[source]}], **arguments)
    assert not torch.allclose(ours, engine.logits(base), atol=1e-2)
    torch.testing.assert_close(theirs[1].logits.flatten(0, 1), ours, atol=1e-5, rtol=1e-5)


def test_an_alignment_that_reads_elsewhere_has_no_pyvene_config(run: Path, tmp_path: Path) -> None:
    other = copy(run, tmp_path / "run")
    text = (other / "alignment.yaml").read_text()
    elsewhere = "component: block_output\n    layer: 1\n    read: {component: block_input, layer: 1}"
    changed = text.replace("component: block_output\n    layer: 1", elsewhere)
    assert changed != text
    (other / "alignment.yaml").write_text(changed)
    folder = export(other, tmp_path / "out", "causal")
    assert not list(folder.glob("pyvene*")) and "pyvene" not in (folder / "README.md").read_text().partition("##")[2]


def test_the_config_is_that_of_this_arm(run: Path, exported: Path) -> None:
    config = load_config(exported / "config.yaml")
    assert set(config.arms) == {"causal"}
    assert (config.verification.baseline, config.verification.treatment) == (None, "causal")
    expected = load_config(run / "config.yaml")
    assert (config.data, config.student, config.seed) == (expected.data, expected.student, expected.seed)


def test_a_failure_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "outcomes.parquet":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(run, tmp_path / "out", "causal")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_exports_left_is_no_hindrance(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    (tmp_path / "out" / f".README.md.{'0f' * 16}.tmp").touch()
    (tmp_path / f".out.{'0f' * 16}").mkdir()
    export(run, tmp_path / "out", "causal")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (None, "has several arms, choose with --arm: plain, causal"),
        ("clausal", 'has no arm "clausal": did you mean "causal"?'),
        ("untrained", 'has no arm "untrained"'),
    ],
)
def test_arms_that_are_not_there(run: Path, tmp_path: Path, arm: str | None, said: str) -> None:
    with pytest.raises(UserError) as caught:
        export(run, tmp_path / "out", arm)
    assert said in str(caught.value) and not (tmp_path / "out").exists()


def test_a_student_that_is_gone(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("causal"))
    with pytest.raises(UserError, match="the student of arm causal is not there; run it again"):
        export(tmp_path / "run", tmp_path / "out", "causal")
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_students_folder_is_not_followed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run" / "causal" / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="notes.txt: a symbolic link leads out of"):
        export(tmp_path / "run", tmp_path / "out", "causal")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["config.yaml", "alignment.yaml", "results.json", "outcomes.parquet", "config.json"])
def test_a_folder_that_is_no_export(exported: Path, tmp_path: Path, file: str) -> None:
    broken = copy(exported, tmp_path / "broken")
    (broken / file).unlink()
    with pytest.raises(UserError, match=f"broken: no {file} there; give a folder that `iit-toolkit export` wrote"):
        verify_export(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


PUSH = ("--push-to-hub", "me/causal-student")


def test_every_file_reaches_the_hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with fake_hub("secret") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        printed = call("export", str(run), "--arm", "causal", "-o", str(tmp_path / "out"), *PUSH)
    assert printed == f"{tmp_path / 'out'}\n{hub.endpoint}/me/causal-student\n"
    assert [(one["organization"], one["name"]) for one in hub.repositories] == [("me", "causal-student")]
    assert "POST /api/models/me/causal-student/commit/main" in hub.requests
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("token", "offline", "said"), [("wrong", False, "401"), ("secret", True, "offline mode is enabled")]
)
def test_a_push_that_fails_keeps_the_folder(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str,
    offline: bool,
    said: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    command = ["export", str(run), "--arm", "causal", "-o", str(tmp_path / "out"), *PUSH]
    with fake_hub("secret") as hub, pytest.raises(SystemExit) as exit_:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        main(command)
    told = capsys.readouterr()
    assert exit_.value.code == 2 and told.out == f"{tmp_path / 'out'}\n"
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "could not push" in errors[0] and said in errors[0]
    assert "Traceback" not in told.err and hub.files == {}
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_no_server_and_no_such_name(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(UserError, match="could not push .* to me/x: .*refused.*push it again"):
        push_to_hub(exported, "me/x")
    with pytest.raises(UserError, match="could not push .* to a/b/c: Repo id must be"):
        push_to_hub(exported, "a/b/c")
