"""A run with learned sites: its files, its control at equal power, its resumption, export, and stock pyvene."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pyvene as pv
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.pyvene_io import stock_arguments, to_pyvene
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import parse_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline import explain, export, run, validate, verify, verify_export
from iit_toolkit.pipeline.explore import explore
from iit_toolkit.pipeline.prepare import Prepared, control_of_run, untrained_control
from tests.tiny_runs import tiny_run

RANK, KEPT, OF_TEACHER = 4, 2, 5
"""A boundary starts in the middle, and a few steps do not move it far."""
SUBSPACE = {"rank": RANK, "boundary": "learned", "rotation": "shared"}
ALIGNMENT: dict[str, Any] = {
    "name": "learned",
    "variables": [
        {
            "name": "middle",
            "teacher": [{"layer": 0, "component": "block_output", "subspace": {"rank": OF_TEACHER}}],
            "student": [{"layer": 0, "component": "block_output", "subspace": SUBSPACE}],
        }
    ],
}


def config(place: Path, **changes: Any) -> RunConfig:
    place.mkdir(exist_ok=True, parents=True)
    document = tiny_run(place)
    arms = {
        "causal": {"alignment": ALIGNMENT, "weights": {"ce": 0.5, "causal_ce": 0.5, "whole": 0.5, "boundary": 0.1}},
        "plain": {"weights": {"ce": 1.0}},
    }
    return parse_config(RunConfig, {**document, "arms": arms, "student": {"layers": 2}, **changes}, (), "test")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learned")


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    return run(config(place), place / "run")


@pytest.fixture(scope="module")
def exported(finished: Path, place: Path) -> Path:
    return export(finished, place / "export", "causal")


def weights(path: Path) -> Mapping[str, torch.Tensor]:
    return load_file(path)


def test_subspaces_lie_beside_the_student_and_those_of_others_in_the_run(finished: Path) -> None:
    own = LearnedSubspaces.load(finished / "causal" / "subspaces.safetensors")
    others = {name: LearnedSubspaces.load(finished / "subspaces" / f"{name}.safetensors") for name in
              ("plain", "untrained")}  # fmt: skip
    assert not (finished / "plain" / "subspaces.safetensors").exists()
    assert [one.steps for one in (own, *others.values())] == [4, 4, 4]  # at equal power
    bases = [one.basis("middle/0") for one in (own, *others.values())]
    assert all(basis.shape[1] == KEPT for basis in bases)
    of_teacher = [one.basis("middle/teacher-0") for one in (own, *others.values())]  # each student found its own
    assert all(basis.shape[1] == OF_TEACHER for basis in of_teacher)
    for found in (bases, of_teacher):
        assert not any(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, found[1:], strict=False))
    controls = json.loads((finished / "results.json").read_text())["verdict"]["variables"]["middle"]["controls"]
    assert "untrained" in [control["name"] for control in controls]
    width = bases[0].shape[0]
    told = json.loads((finished / "results.json").read_text())["subspaces"]
    assert list(told) == ["causal", "plain", "untrained"]
    assert told["untrained"]["middle/0"] | {"component": ""} == {
        "component": "", "neurons": width, "rank": RANK, "directions": KEPT
    }  # fmt: skip
    said = f"untrained: middle/0: {KEPT} of {bases[0].shape[0]} (at most {RANK}), middle/teacher-0: {OF_TEACHER} of"
    for page in ("report.md", "report.html"):
        assert said in (finished / page).read_text()
    assert f"subspace rank {RANK}, boundary learned, rotation shared" in (finished / "report.md").read_text()
    stored = read_outcomes(finished / "controls.parquet")
    assert 'unaligned neurons of "middle"' in set(stored["variable"])


def test_the_control_is_the_untrained_network_with_subspaces_learned_on_it(finished: Path, place: Path) -> None:
    """Its outcomes are those of a verification by hand."""
    from iit_toolkit.analysis.verification.verify import verify as verify_by_hand

    prepared = Prepared(config(place))
    untrained = prepared.new_student()
    learned = LearnedSubspaces.load(finished / "subspaces" / "untrained.safetensors")
    found = verify_by_hand(
        prepared.teacher, {"untrained": untrained}, Alignment.from_dict(ALIGNMENT),
        prepared.eval_rows, prepared.collator,  # pyright: ignore[reportArgumentType]
        task="masked_lm", pairs=16, seed=prepared.config.seed, subspaces=learned,
    ).outcomes  # fmt: skip
    stored = read_outcomes(finished / "outcomes.parquet")
    stored = stored[stored["student"] == "untrained"].reset_index(drop=True)
    for name in ("student_base", "student_cf", "teacher_cf"):
        assert found[name].tolist() == stored[name].tolist()


def test_the_control_of_a_frozen_student_has_random_weights(finished: Path, place: Path) -> None:
    """Before training, a frozen student is what it is after it: the same network would be compared with itself."""
    student = {"checkpoint": str(finished / "plain")}
    weights = {"causal_ce": 0.5, "whole": 0.5, "boundary": 0.1}
    arms = {"das": {"alignment": ALIGNMENT, "weights": weights, "training": {"freeze_student": True}}}
    frozen = config(place / "frozen", student=student, arms=arms)
    folder = run(frozen, place / "frozen" / "run")
    stored = read_outcomes(folder / "outcomes.parquet")
    base = {name: own["kl"].to_numpy() for name, own in stored.groupby("student")}
    assert not (base["das"] == base["untrained"]).all()
    prepared = Prepared(frozen)
    before = prepared.new_student()
    control, again = (control_of_run(prepared, before, "das") for _ in range(2))
    name = "bert.encoder.layer.0.attention.self.query.weight"
    one, two, trained = (model.state_dict()[name] for model in (control, again, before))
    assert torch.equal(one, two) and not torch.equal(one, trained)


def test_only_a_frozen_student_that_is_judged_has_another_control_than_itself_before_training(place: Path) -> None:
    both = config(place)
    frozen = {**both.arms["causal"].model_dump(exclude_defaults=True), "training": {"freeze_student": True}}
    frozen["weights"] = {"causal_ce": 0.5, "whole": 0.5, "boundary": 0.1}
    prepared = Prepared(config(place, arms={"causal": both.arms["causal"].model_dump(), "das": frozen}))
    before = prepared.new_student()
    assert control_of_run(prepared, before, "causal") is before
    random = control_of_run(prepared, before, "das").state_dict()
    alignment = prepared.verified_alignment(before)
    finished = untrained_control(prepared, alignment, before)["untrained"].state_dict()  # as the frozen arm is saved
    assert all(torch.equal(weight, random[name]) for name, weight in finished.items())
    trained = prepared.new_student()
    for weight in trained.parameters():
        weight.data += 0.1
    kept = untrained_control(prepared, alignment, trained)["untrained"].state_dict()
    assert all(torch.equal(weight, before.state_dict()[name]) for name, weight in kept.items())


def test_a_run_that_was_stopped_gives_the_subspaces_of_one_that_was_not(finished: Path, place: Path) -> None:
    again = place / "again"
    shutil.copytree(finished, again)
    for gone in ("causal", "subspaces", "results.json", "outcomes.parquet"):
        shutil.rmtree(again / gone) if (again / gone).is_dir() else (again / gone).unlink()
    run(config(place), again, resume=True)
    for name in ("causal/subspaces.safetensors", "subspaces/untrained.safetensors", "subspaces/plain.safetensors"):
        mine, theirs = weights(again / name), weights(finished / name)
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert read_outcomes(again / "outcomes.parquet").equals(read_outcomes(finished / "outcomes.parquet"))


def test_an_export_holds_both_and_is_verified_again_without_learning(
    exported: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (exported / "subspaces.safetensors").is_file()
    assert (exported / "subspaces" / "untrained.safetensors").is_file()
    assert "subspaces.safetensors" in (exported / "README.md").read_text()
    assert list(json.loads((exported / "results.json").read_text())["subspaces"]) == ["causal", "untrained"]

    def never(*_: Any) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr("iit_toolkit.pipeline.learned._learned_after", never)
    again = verify_export(exported, place / "verified")
    assert again.same, again.sentence
    before, after = (read_outcomes(folder / "outcomes.parquet") for folder in (exported, again.folder))
    for name in ("causal", "untrained"):  # the control with directions of its own
        one, other = (cases[cases["student"] == name].reset_index(drop=True) for cases in (before, after))
        assert len(one) and one.equals(other)


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_stock_pyvene_swaps_the_exported_subspace_as_the_engine_does(exported: Path, place: Path, name: str) -> None:
    model = AutoModelForMaskedLM.from_pretrained(exported if name == "student" else place / "teacher").eval()
    tokenizer = AutoTokenizer.from_pretrained(exported)
    alignment = Alignment.from_yaml(exported / "alignment.yaml")
    document = json.loads((exported / f"pyvene-{name}.json").read_text())
    [entry] = document["representations"]
    assert document["weights"] == "subspaces.safetensors"
    assert entry["low_rank_dimension"] == (KEPT if name == "student" else OF_TEACHER)
    file = weights(exported / document["weights"])
    prefix = f"{entry['state']}/"
    state = {name.removeprefix(prefix): value for name, value in file.items() if name.startswith(prefix)}
    intervention = pv.LowRankRotatedSpaceIntervention(
        embed_dim=entry["embed_dim"], low_rank_dimension=entry["low_rank_dimension"], keep_last_dim=True
    )
    intervention.load_state_dict(state)
    given = {name: entry[name] for name in ("component", "unit", "max_number_of_units", "low_rank_dimension")}
    by_hand = pv.IntervenableConfig([pv.RepresentationConfig(**given, intervention=intervention, group_key=0)])
    subspaces = LearnedSubspaces.load(exported / "subspaces.safetensors")
    ids = torch.randint(5, len(tokenizer), (3, 8), generator=torch.Generator().manual_seed(0))
    swap_positions = torch.tensor([[2, 3], [1, 5], [4, 6]]), torch.tensor([[1, 2], [3, 4], [5, 6]])
    mask, taken = torch.zeros(3, 8, dtype=torch.bool), torch.zeros(3, 8, dtype=torch.long)
    for row in range(3):
        mask[row, swap_positions[1][row]] = True
        taken[row, swap_positions[1][row]] = swap_positions[0][row]
    source = torch.tensor([1, 2, 0])
    side = InterchangeModel(model, resolve(alignment, model, name), subspaces=subspaces)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        base = side.base_run({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ["middle"])
        ours = side.logits(side.counterfactual_run(base, "middle", Swap(source, mask, taken)))
        for found in (by_hand, to_pyvene(alignment, model, name, subspaces)):  # pyright: ignore[reportArgumentType]
            stock = pv.IntervenableModel(found, model)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            others = {name: value[source] for name, value in inputs.items()}
            _, outputs = stock(inputs, [others], **stock_arguments(found, 0, swap_positions))
            theirs = outputs.logits.flatten(0, 1)
            assert float((ours - theirs).abs().max()) < 1e-4 < 1e-3 < float((ours - side.logits(base)).abs().max())


def test_a_student_without_subspaces_is_refused_if_no_arm_trains_them(finished: Path, place: Path) -> None:
    (place / "learned.yaml").write_text(Alignment.from_dict(ALIGNMENT).to_yaml())
    bare = config(place, arms={})
    with pytest.raises(UserError, match=r"no subspaces\.safetensors beside it fits, and no arm") as caught:
        verify(bare, str(finished / "plain"), str(place / "learned.yaml"), place / "bare")
    assert "\n" not in str(caught.value)


def test_a_rank_as_wide_as_the_site_is_refused_before_anything_is_trained(place: Path) -> None:
    wide = json.loads(json.dumps(ALIGNMENT))
    wide["variables"][0]["student"][0]["subspace"]["rank"] = 4096
    arms = {"causal": {"alignment": wide, "weights": {"causal_ce": 1.0, "whole": 1.0, "boundary": 0.1}}}
    with pytest.raises(UserError, match="its rank is 4096, but the site has"):
        run(config(place, arms=arms), place / "wide")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"arms": {"a": {"alignment": ALIGNMENT, "weights": {"ce": 1.0}}}},
            r"arms\.a\.weights: learned subspaces need",
        ),
        ({"arms": {"a": {}}, "verification": {"alignment": ALIGNMENT}}, "but no arm trains them"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_trained(
    place: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        validate(config(place, **changes))
    assert "\n" not in str(caught.value)


def test_explain_names_the_subspace(place: Path) -> None:
    assert f"learned subspace of rank {RANK} at most, in a shared rotation" in explain(config(place))


def test_one_swap_is_explored_in_the_learned_directions(finished: Path, place: Path) -> None:
    prepared = Prepared(config(place))
    student = AutoModelForMaskedLM.from_pretrained(finished / "causal").eval()
    words = str(prepared.tokenizer.decode(prepared.eval_rows[0]["input_ids"], skip_special_tokens=True)).split()
    texts = [" ".join([str(prepared.tokenizer.mask_token), *some]) for some in (words[1:], [*words[2:], words[1]])]
    given = (prepared.teacher, student, Alignment.from_dict(ALIGNMENT), prepared.tokenizer, *texts)
    own = LearnedSubspaces.load(finished / "causal" / "subspaces.safetensors")
    assert len(explore(*given, subspaces=own).answers)
    with pytest.raises(UserError, match="give `subspaces`"):
        explore(*given)
