"""Controls on planted students, each with an answer that is known beforehand.

The student computes a variable in its block 1 and holds it in neurons LEFT, from where block 2 carries it to other
positions. Below, LEFT is empty; beside it, RIGHT holds the word, so faintly that nobody above reads it. The teacher is
built from the student, as in `test_planted_truth`.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from iit_toolkit.alignment import Alignment, Site, Variable, resolve
from iit_toolkit.analysis.statistics.control_results import Ceiling
from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.leak import Leak, find_leaks
from iit_toolkit.analysis.statistics.outcomes import (
    IN_TEACHER,
    OTHER_VARIABLE,
    RANDOM_NEURONS,
    SHUFFLED_SOURCES,
    UNALIGNED,
    WRONG_LAYER,
)
from iit_toolkit.analysis.statistics.quantities import students, variables
from iit_toolkit.analysis.statistics.variable_verdict import Control
from iit_toolkit.analysis.statistics.verdict import Verdict, judge
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.controls import Plan, plan_controls
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from tests.analysis.verification.test_planted_truth import LEFT, RIGHT, WIDTH, aligned, collate, llama, rows, teacher_of

ORDER = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(3))
PAIRS = {index: int(ORDER[index]) for index in LEFT}
READS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


def silence(block: Any, neurons: tuple[int, ...]) -> None:
    """Let a block write nothing to these neurons."""
    for part in (block.self_attn.o_proj, block.mlp.down_proj):
        part.weight.data[list(neurons)] = 0.0


def holder(computed_in: int = 1) -> LlamaForCausalLM:
    """The student described above; block 1 - `computed_in` is an identity."""
    model = llama(3)
    model.model.embed_tokens.weight.data[:, list(LEFT)] = 0.0
    model.model.embed_tokens.weight.data[:, list(RIGHT)] *= 0.02
    silence(model.model.layers[1 - computed_in], tuple(range(WIDTH)))
    silence(model.model.layers[computed_in], RIGHT)
    silence(model.model.layers[2], RIGHT)
    model.model.layers[computed_in].self_attn.o_proj.weight.data.zero_()  # so that no position knows of others yet
    return model


def redundant() -> LlamaForCausalLM:
    """The same function, but what was in LEFT is in RIGHT as well, and each is read by half."""
    model = holder()
    for block in model.model.layers[1:]:
        for part in (block.self_attn.o_proj, block.mlp.down_proj):
            part.weight.data[list(RIGHT)] = part.weight.data[list(LEFT)]
    reading = [model.lm_head, *(model.model.layers[2].get_submodule(name) for name in READS)]
    for part in reading:
        halved: Any = part.weight.data[:, list(LEFT)] / math.sqrt(2)  # the norm is larger by the square root of two
        part.weight.data[:, list(LEFT)] = part.weight.data[:, list(RIGHT)] = halved
    return model


def verified(
    student: LlamaForCausalLM,
    alignment: Alignment | None = None,
    teacher: LlamaForCausalLM | None = None,
    **options: Any,
) -> Verification:
    teacher = teacher_of(student, ORDER) if teacher is None else teacher
    options = {"pairs": 120, "batch_size": 60, "judged": "student", **options}
    given = aligned(PAIRS) if alignment is None else alignment
    return verify(teacher, {"student": student}, given, rows(120), collate, task="causal_lm", **options)


def judged(found: Verification) -> Verdict:
    return judge(found.outcomes, "student", controls=found.controls, resamples=300)


def controls(found: Verification, variable: str = "half") -> dict[str, Control]:
    return {control.name: control for control in judged(found).variables[variable].controls}


def leaks(found: Verification) -> dict[str, Leak]:
    assert found.controls is not None
    return {leak.site: leak for leak in find_leaks(found.controls, margin=0.05, resamples=300)}


def whole(layers: dict[str, int], depth: int = 2) -> Alignment:
    """Whole vectors of the student's layers, by variable."""
    found = [
        Variable(
            name=name,
            teacher=(Site(component="block_output", layer=depth * layer + 1),),
            student=(Site(component="block_output", layer=layer),),
        )
        for name, layer in layers.items()
    ]
    return aligned(PAIRS).model_copy(update={"variables": tuple(found)})


@pytest.fixture(scope="module")
def honest() -> Verification:
    return verified(holder())


def test_a_student_that_holds_the_variable_at_its_site_alone_passes_every_control(honest: Verification) -> None:
    found = controls(honest)
    assert set(found) == {FLOOR, WRONG_LAYER, RANDOM_NEURONS, SHUFFLED_SOURCES}
    assert all(control.passed for control in found.values())
    verdict = judge(honest.outcomes, "student", controls=honest.controls, resamples=300)
    effective = verdict.variables["half"].score
    assert verdict.label == "SUPPORTED" and effective.value == pytest.approx(1.0) and effective.cases > 100


def test_its_shuffled_sites_score_the_floor(honest: Verification) -> None:
    found = controls(honest)
    assert found[FLOOR].level.value == 0.0
    assert found[WRONG_LAYER].level.value == pytest.approx(0.0, abs=0.02)  # where LEFT is empty
    assert found[RANDOM_NEURONS].level.value == pytest.approx(0.0, abs=0.02)  # RIGHT, which is faint


def test_the_teacher_agrees_with_itself(honest: Verification) -> None:
    """On 16 pairs, of as many evaluated tokens each, whatever the size of a batch."""
    each = len(honest.outcomes) // 120
    assert honest.ceiling == Ceiling(16 * each, 16 * each) and honest.self_swap.cases == 2 * 16 * each
    assert (honest.self_swap.changed, honest.self_swap.max_difference) == (0, 0.0)


def test_a_teacher_that_is_not_deterministic_is_found_out() -> None:
    teacher = teacher_of(holder(), ORDER)
    noise = torch.Generator().manual_seed(0)
    teacher.model.layers[5].register_forward_hook(
        lambda _m, _a, output: output + 5 * torch.randn(output.shape, generator=noise, dtype=output.dtype)
    )
    found = verified(holder(), teacher=teacher, pairs=20)
    assert 0 < found.ceiling.same < found.ceiling.cases
    assert found.self_swap.changed > 0


def test_a_layer_that_holds_the_same_fails_the_control() -> None:
    """Block 0 of the student computes the variable and block 1 changes nothing: the site may be after either.

    The teacher computes it in its block 2 and does nothing before: after block 1, there is nothing to swap.
    """
    student = holder(computed_in=0)
    teacher = teacher_of(student, ORDER)
    early, late = teacher.model.layers[0], teacher.model.layers[2]
    first = copy.deepcopy(early.state_dict())
    early.load_state_dict(late.state_dict())
    late.load_state_dict(first)
    found = controls(verified(student, teacher=teacher))
    assert found[WRONG_LAYER].level.value == pytest.approx(1.0) and found[WRONG_LAYER].passed is False
    assert found[RANDOM_NEURONS].passed and found[SHUFFLED_SOURCES].passed


def test_a_layer_at_which_the_teacher_does_the_same_is_not_asked() -> None:
    """The teacher computes it in its first block, too: both its layers hold the variable, and so may the student's."""
    verdict = judged(verified(holder(computed_in=0)))
    found = {control.name: control for control in verdict.variables["half"].controls}
    assert not found[WRONG_LAYER].applies and found[WRONG_LAYER].passed is None
    assert found[WRONG_LAYER].meaning.startswith("Not asked: the teacher does otherwise there in 0 cases")
    assert verdict.label == "SUPPORTED"


def test_neurons_that_hold_the_same_fail_the_control() -> None:
    """Swapping either half of the student's changes half of what is read; the teacher has one half that is read."""
    found = controls(verified(redundant(), teacher=teacher_of(holder(), ORDER)))
    assert found[RANDOM_NEURONS].passed is False and found[WRONG_LAYER].passed


def test_neurons_at_which_the_teacher_does_the_same_are_not_asked() -> None:
    """The teacher is built like the student: swapping either half changes half of what is read."""
    found = controls(verified(redundant()))
    assert not found[RANDOM_NEURONS].applies and found[WRONG_LAYER].passed


def test_two_variables_that_are_told_apart_pass_and_two_that_are_not_fail() -> None:
    def other(student: LlamaForCausalLM, **options: Any) -> Control:
        found = verified(student, whole({"early": 0, "late": 1}), **options)
        early, late = (controls(found, name)[OTHER_VARIABLE] for name in ("early", "late"))
        assert early.passed == late.passed
        return late

    assert other(llama(3)).passed
    same = llama(3)
    silence(same.model.layers[1], tuple(range(WIDTH)))
    twins = other(same, teacher=teacher_of(llama(3), ORDER))
    assert twins.passed is False
    assert not other(same).applies, "the teacher is built likewise"


def test_a_student_to_which_every_source_is_the_same_fails() -> None:
    """Its aligned neurons are empty at every word; the teacher's are not."""
    student = holder()
    silence(student.model.layers[1], LEFT)
    found = controls(verified(student, teacher=teacher_of(holder(), ORDER)))[SHUFFLED_SOURCES]
    assert found.passed is False and found.difference.value == 0.0


def test_one_source_for_all_supports_nothing_however_well_the_student_follows() -> None:
    """Paired sources that all say the same: nothing shows that it matters what is swapped in."""

    def paired(batch: Any) -> dict[str, torch.Tensor]:
        base, source = collate(batch), collate(batch)
        source["input_ids"] = rows(1)[0]["input_ids"].expand_as(base["input_ids"])
        source["example_id"] = 1000 + base["example_id"]
        return {**base, **{f"source_{name}": value for name, value in source.items()}}

    given = {**aligned(PAIRS).to_dict(), "sources": {"kind": "paired"}, "positions": {"kind": "fixed", "base": [2, 5]}}
    options: dict[str, Any] = {"task": "causal_lm", "pairs": 120, "batch_size": 60, "judged": "student"}
    student = holder()
    teacher, alignment = teacher_of(student, ORDER), Alignment.from_dict(given)
    verdict = judged(verify(teacher, {"student": student}, alignment, rows(120), paired, **options))
    found = {control.name: control for control in verdict.variables["half"].controls}[SHUFFLED_SOURCES]
    assert found.passed is None and found.applies and verdict.label == "INCONCLUSIVE"
    assert "not shown to depend on what is swapped in" in found.meaning


@pytest.mark.parametrize("kind", ["in_batch", "dataset"])
def test_sources_of_either_kind_are_shuffled(kind: str) -> None:
    alignment = Alignment.from_dict({**aligned(PAIRS).to_dict(), "sources": {"kind": kind}})
    found = controls(verified(holder(), alignment))[SHUFFLED_SOURCES]
    assert found.passed and found.level.value is not None and found.level.value < 0.6


def test_batches_of_two_rows_will_do() -> None:
    found = controls(verified(holder(), pairs=60, batch_size=2))
    assert found[SHUFFLED_SOURCES].passed and found[WRONG_LAYER].level.value == 0.0


def test_the_untrained_student_is_passed_by_the_planted_one_and_not_by_its_twin() -> None:
    student, stranger = holder(), llama(3)
    teacher = teacher_of(student, ORDER)
    for parameter in stranger.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.5, generator=torch.Generator().manual_seed(9))
    for untrained, passed in ((stranger, True), (copy.deepcopy(student), False)):
        both = {"student": student, "untrained": untrained}
        options: dict[str, Any] = {"task": "causal_lm", "pairs": 120, "batch_size": 60, "judged": "student"}
        found = verify(teacher, both, aligned(PAIRS), rows(120), collate, **options)
        assert controls(found)["untrained"].passed is passed


def test_an_honest_student_leaks_nowhere(honest: Verification) -> None:
    found = leaks(honest)
    assert list(found) == ["block 0 (in the teacher: block 1)", 'unaligned neurons of "half"']
    assert all(leak.passed is True for leak in found.values())
    block, unaligned = found.values()
    assert (
        block.student.value == pytest.approx(block.teacher.value) and block.teacher.value and block.teacher.value > 0.1
    )
    assert unaligned.student.value == pytest.approx(0.0, abs=0.02) and "no leak found here" in unaligned.sentence


def test_a_path_beside_the_alignment_is_found() -> None:
    found = verified(redundant(), teacher=teacher_of(holder(), ORDER))
    agreement = found.outcomes["student_base"] == found.outcomes["teacher_base"]
    assert agreement.mean() > 0.9, "without intervention, nothing gives it away"
    unaligned = leaks(found)['unaligned neurons of "half"']
    assert unaligned.passed is False and "the student uses what the alignment leaves out" in unaligned.sentence
    assert leaks(found)["block 0 (in the teacher: block 1)"].passed is True


def test_what_a_student_leaves_out_is_held_against_nothing_where_its_teacher_swaps_whole_vectors() -> None:
    given = aligned(PAIRS).variables[0].model_copy(update={"teacher": (Site(component="block_output", layer=3),)})
    alignment = aligned(PAIRS).model_copy(update={"variables": (given,)})
    found = leaks(verified(redundant(), alignment))['unaligned neurons of "half"']
    assert found.teacher.value == 0.0 and found.passed is False


def test_too_few_examples_decide_no_leak() -> None:
    found = leaks(verified(redundant(), teacher=teacher_of(holder(), ORDER), pairs=16))['unaligned neurons of "half"']
    assert found.passed is None and "too few inputs to tell (bases and sources from 20 texts" in found.sentence


def test_too_few_sources_decide_no_leak(honest: Verification) -> None:
    """Both roles are resampled: 120 bases do not help where they share six sources."""
    assert honest.controls is not None
    few = honest.controls.assign(source=1000 + honest.controls["base"] % 6)
    assert {leak.passed for leak in find_leaks(few, margin=0.05, resamples=100)} == {None}


def test_swaps_beside_the_alignment_stop_at_128_pairs() -> None:
    more = verify(
        teacher_of(holder(), ORDER), {"student": holder()}, aligned(PAIRS), rows(150), collate,
        task="causal_lm", pairs=150, batch_size=50, judged="student",
    )  # fmt: skip
    assert more.controls is not None
    by_control = more.controls.groupby("student")["base"].nunique()
    assert by_control[UNALIGNED] == 128 and by_control[WRONG_LAYER] == by_control[SHUFFLED_SOURCES] == 150


def test_variables_that_share_a_layer_leave_out_what_neither_holds() -> None:
    def alignment(*halves: tuple[int, int]) -> Alignment:
        found = []
        for index, neurons in enumerate(halves):
            site = {"component": "block_output", "layer": 1, "neurons": list(neurons)}
            found.append({"name": f"part {index}", "teacher": [site], "student": [site]})
        return Alignment.from_dict({"name": "parts", "variables": found})

    student = llama(3)
    some = verified(student, alignment((0, 4), (4, 8)), teacher=student, pairs=20)
    assert [name for name in leaks(some) if "neurons" in name] == ['unaligned neurons of "part 0"']
    every = verified(student, alignment((0, 8), (8, 16)), teacher=student, pairs=20)
    assert not [name for name in leaks(every) if "neurons" in name]
    assert every.controls is not None
    shuffled = {WRONG_LAYER, RANDOM_NEURONS, SHUFFLED_SOURCES}
    assert set(students(every.controls)) == {*shuffled, *(IN_TEACHER[name] for name in shuffled), UNALIGNED}
    assert not every.absent


def test_heads_are_exchanged_whole() -> None:
    site = {"component": "attention_value_output", "layer": 1, "heads": [0]}
    given = {"name": "head", "variables": [{"name": "head", "teacher": [site], "student": [site]}]}
    student = llama(3)
    found = verified(student, Alignment.from_dict(given), teacher=student, pairs=40)
    other = Alignment.from_dict(given | {"variables": [given["variables"][0] | {"student": [site | {"heads": [1]}]}]})
    swapped = verified(student, other, teacher=student, pairs=40, judged=None).outcomes
    assert found.controls is not None
    mine = found.controls[found.controls["student"] == RANDOM_NEURONS]
    assert mine["student_cf"].tolist() == swapped["student_cf"].tolist()


def test_what_there_is_not_is_said() -> None:
    found = verified(holder(), whole({"late": 2}), pairs=20)
    assert found.controls is not None and variables(found.controls, WRONG_LAYER) == ["late"]  # it moves down
    one = llama(1)
    found = verified(one, whole({"only": 0}), pairs=20)
    assert [(absent.control, absent.variable) for absent in found.absent] == [
        (WRONG_LAYER, "only"),
        ("leak check of blocks", ""),
    ]
    assert found.controls is not None and students(found.controls) == [SHUFFLED_SOURCES, IN_TEACHER[SHUFFLED_SOURCES]]
    most = aligned({index: int(ORDER[index]) for index in range(9)})
    reasons = [(absent.control, absent.reason) for absent in verified(llama(3), most, pairs=20).absent]
    assert reasons == [(RANDOM_NEURONS, "the sites leave out fewer neurons than they hold")]


def test_a_model_whose_blocks_are_not_found_has_the_controls_that_need_none() -> None:
    student = llama(3)
    student.config.model_type, student.config.num_hidden_layers = "unheard of", 77
    site = {"component": "model.layers[1].output", "neurons": [0, 8]}
    given = {"name": "path", "variables": [{"name": "half", "teacher": [site], "student": [site]}]}
    found = verified(student, Alignment.from_dict(given), teacher=student, pairs=40)
    assert found.controls is not None
    shuffled = {RANDOM_NEURONS, SHUFFLED_SOURCES}
    assert set(students(found.controls)) == {*shuffled, *(IN_TEACHER[name] for name in shuffled), UNALIGNED}
    assert [absent.control for absent in found.absent] == [WRONG_LAYER, "leak check of blocks"]
    assert list(leaks(found)) == ['unaligned neurons of "half"']
    assert judge(found.outcomes, "student", controls=found.controls, resamples=100).label


def planned(alignment: Alignment, student: LlamaForCausalLM, seed: int) -> Plan:
    options: dict[str, Any] = {"task": "causal_lm", "pairs": 4, "batch_size": 4, "seed": 0, "what": "testing"}
    batches = list(draw_pairs(rows(4), collate, alignment.positions, alignment.sources, **options))
    models: dict[str, Any] = {"teacher": teacher_of(student, ORDER), "student": student}
    sides = [InterchangeModel(model, resolve(alignment, model, side)) for side, model in models.items()]  # pyright: ignore
    with torch.no_grad():
        return plan_controls(alignment, *sides, batches, seed)


def test_whatever_the_seed_sites_are_moved_to_where_they_are_felt() -> None:
    """Of a student of five blocks: not to its own, nor to the last, whose output reaches no other position."""
    student, drawn = llama(5), set[str]()
    for seed in range(20):
        plan = planned(whole({"middle": 1}), student, seed)
        [site] = plan.shuffled[WRONG_LAYER, "middle"]
        assert (site.read, site.ranges) == (site.write, None)
        drawn.add(site.write)
    assert drawn == {f"model.layers[{layer}].output" for layer in (0, 2, 3)}


def test_in_the_last_block_sites_before_attention_are_felt() -> None:
    """Keys and values of the last block reach other positions; queries reach their own alone, and so does its MLP."""
    felt_at = {"self_attn.k_proj": True, "self_attn.v_proj": True, "self_attn.q_proj": False, "mlp": False}
    for component, felt in felt_at.items():
        site = {"component": f"model.layers[0].{component}.output"}
        given = {"name": "sides", "variables": [{"name": "early", "teacher": [site], "student": [site]}]}
        drawn = [planned(Alignment.from_dict(given), llama(2), seed).shuffled for seed in range(3)]
        assert [(WRONG_LAYER, "early") in one for one in drawn] == [felt] * 3, component


def test_whatever_the_seed_random_neurons_are_others_of_the_layer() -> None:
    student, drawn = llama(3), set[Any]()
    for seed in range(10):
        plan = planned(aligned({index: PAIRS[index] for index in (0, 1, 7)}), student, seed)
        [site] = plan.shuffled[RANDOM_NEURONS, "half"]
        assert site.write == "model.layers[1].output" and site.ranges is not None
        neurons = [neuron for low, high in site.ranges for neuron in range(low, high)]
        assert len(neurons) == 3 and not set(neurons) & {0, 1, 7} and max(neurons) < WIDTH
        drawn.add(site.ranges)
    assert len(drawn) > 5


def test_whatever_the_seed_a_random_head_is_a_whole_one() -> None:
    config = llama(3).config
    config.num_attention_heads = config.num_key_value_heads = config.head_dim = 4
    student = LlamaForCausalLM(config).double().eval()
    site = {"component": "attention_value_output", "layer": 1, "heads": [1]}
    given = {"name": "head", "variables": [{"name": "head", "teacher": [site], "student": [site]}]}
    plans = [planned(Alignment.from_dict(given), student, seed) for seed in range(20)]
    drawn = {plan.shuffled[RANDOM_NEURONS, "head"][0].ranges for plan in plans}
    assert drawn == {((0, 4),), ((8, 12),), ((12, 16),)}


def test_a_variable_that_would_not_be_felt_stands_for_no_other() -> None:
    plan = planned(whole({"early": 0, "last": 2}), llama(3), 0)
    assert (OTHER_VARIABLE, "last") in plan.shuffled
    assert [(absent.control, absent.variable) for absent in plan.absent] == [(OTHER_VARIABLE, "early")]


def test_controls_cost_the_runs_that_the_guide_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per batch three more of each model; of the first 128 pairs, two more of each model, and at two places."""
    count: dict[str, int] = {}
    for name in ("base_run", "counterfactual_run"):
        plain = getattr(InterchangeModel, name)

        def counted(self: Any, *given: Any, plain: Any = plain, name: str = name, **named: Any) -> Any:
            count[name] = count.get(name, 0) + 1
            return plain(self, *given, **named)

        monkeypatch.setattr(InterchangeModel, name, counted)
    student, runs = holder(), []
    for judged in ("student", None):
        count.clear()
        verified(student, pairs=30, batch_size=10, judged=judged)
        runs.append(dict(count))
    assert runs[0]["counterfactual_run"] - runs[1]["counterfactual_run"] == 3 * (2 * 3 + 2 * 2 + 2)
    assert runs[0]["base_run"] - runs[1]["base_run"] == 2 + 3 * (2 + 2)  # two of which tell how wide sites are


def test_controls_change_nothing_of_the_outcomes(honest: Verification) -> None:
    plain = verified(holder(), judged=None)
    assert plain.controls is None and plain.absent == ()
    assert plain.outcomes.equals(honest.outcomes)


def test_an_unknown_student_cannot_be_judged() -> None:
    with pytest.raises(UserError, match='no student "nobody" to judge; there are: student'):
        verified(holder(), judged="nobody")


def test_controls_of_other_cases_are_refused(honest: Verification) -> None:
    assert honest.controls is not None
    other = honest.controls[honest.controls["base"] != 3]
    with pytest.raises(UserError, match='"student" and "wrong layer" were verified on different cases'):
        judge(honest.outcomes, "student", controls=other, resamples=100)
