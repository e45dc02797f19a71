"""Every mistake in a config of programs and networks, or in the Python that it names, is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iit_toolkit.cli import main
from tests.pipeline.test_networks import place as place

MISTAKES = """
import torch
import iit_toolkit as iit
from planted import network, program, rows

dead = iit.CausalModel(
    {**program.parents, "dead": ("inputs",)},
    {**program.functions, "dead": lambda inputs: inputs[:, 0] > 0},
    {**program.domains, "dead": (False, True)},
    "same",
)
few = iit.CausalModel(
    {"inputs": (), "sum": ("inputs",), "same": ("sum",)},
    {"sum": lambda inputs: inputs.sum(1), "same": lambda sum: sum > 1},
    {"sum": (0, 1, 2), "same": (False, True)},
    "same",
)
number = 3


def changed(**functions):
    return iit.CausalModel(program.parents, {**program.functions, **functions}, program.domains, "same")


def chance():
    return changed(left=lambda inputs: torch.rand(len(inputs)) < 0.5)


def across():
    return changed(left=lambda inputs: inputs[:, 0] == inputs[:, 1].flip(0))


def in_place():
    return changed(left=lambda inputs: inputs.sub_(1)[:, 0] == 0)


def twice():
    domains = {**program.domains, "same": (False, True, True)}
    return iit.CausalModel(program.parents, program.functions, domains, "same")


def untrainable():
    return network().requires_grad_(False)


class Around(torch.nn.Module):
    def __init__(self, then):
        super().__init__()
        self.net, self.then = network(), then

    def forward(self, inputs):
        return self.then(self.net(inputs))


def detached():
    return Around(torch.Tensor.detach)


def infinite():
    return Around(lambda logits: logits / 0)


def together():
    return Around(lambda logits: logits - logits.mean(0))


def labelled():
    return [{**some, "labels": program.answers(program.run(some))} for some in rows()]


def unfinished():
    return [{"inputs": some["inputs"] / 0} for some in rows()]


def wide():
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()


def three():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).double()


def nothing():
    return None


def failing():
    raise KeyError("digits")


def one():
    return rows()[0]


def mislabelled():
    return [{**some, "labels": 1 - program.answers(program.run(some))} for some in rows()]


def unequal():
    return [{**some, "labels": torch.zeros(3, dtype=torch.long)} for some in rows()]
"""
CYCLE = """
import iit_toolkit as iit
program = iit.CausalModel(
    {"a": ("b",), "b": ("a",)}, {"a": lambda b: b, "b": lambda a: a}, {"b": (0, 1)}, "b"
)
"""
DEAD = """
import planted

def network():
    made = planted.network()
    made[3].weight.data[:, :2] = 0  # reads nothing of the first two neurons
    return made
"""
SITE = "{component: 2.output, neurons: [0, 2]}"


def aligned(teacher: str = "{variable: left}", student: str = SITE, rest: str = "") -> str:
    variable = f"{{name: v, teacher: [{teacher}], student: [{student}]}}"
    return f"arms.iit.alignment={{name: x, variables: [{variable}]{rest}}}"


IN_NET = aligned(student="{component: net.2.output, neurons: [0, 2]}")
VERIFIED = "verification.alignment=null"
WRONG: dict[str, tuple[list[str], list[str]]] = {
    "a subspace as wide as its site": (
        [aligned(student="{component: 2.output, subspace: {rank: 4}}")],
        ["its rank is 4, but the site has 4 neurons; give a rank of 1 to 3"],
    ),
    "no such file": (["teacher.program=plantd.py:program"], ["teacher.program: plantd.py: no such file"]),
    "no such name": (["teacher.program=planted.py:progam"], ["has no 'progam'", 'did you mean "program"?']),
    "no name at all": (["teacher.program=planted.py"], ["teacher.program", "write path/to/file.py:name"]),
    "no such module": (["teacher.program=nowhere_at_all:program"], ["nowhere_at_all", "ModuleNotFoundError"]),
    "no program": (["teacher.program=mistakes.py:number"], ["mistakes.py:number is a int", "CausalModel"]),
    "two teachers": (["teacher.network=planted.py:network"], ["teacher", "give one of program and network"]),
    "cyclic parents": (["teacher.program=cycle.py:program"], ["cycle.py: parents form a cycle: "]),
    "a variable that never changes the answer": (
        ["teacher.program=mistakes.py:dead", aligned("{variable: dead}")],
        ["program: dead (train): never changes the answer in 300 rows"],
    ),
    "a value outside its domain": (
        ["teacher.program=mistakes.py:few", aligned("{variable: sum}")],
        ["training rows: variable 'sum' is", "outside its domain [0, 1, 2]"],
    ),
    "no variable of the program": (
        [aligned("{variable: lefft}")],
        ["variable 'v', teacher: the program has no variable 'lefft'", 'did you mean "left"?'],
    ),
    "a site for a program": ([aligned(SITE)], ["variable 'v', teacher", "write `teacher: [{variable: NAME}]`"]),
    "a variable in the student": ([aligned(student="{variable: left}")], ["student.0.component"]),
    "sources of no variable": ([aligned(rest=", draw: {w: 1}")], ["draw names no variable 'w'"]),
    "sources that rows lack": (
        [aligned(rest=", sources: {kind: paired}"), "verification.alignment=alignment.yaml"],
        ["rows have no sources", "data.balance: changed"],
    ),
    "pairs without sources": (["data.balance=changed"], ["sources in_batch", "sources: {kind: paired}"]),
    "positions": ([aligned(rest=", positions: {kind: span}")], ["positions span", "leave `positions` out"]),
    "no such module in the network": ([aligned(student="{component: 9.output}")], ["has no '9'"]),
    "neurons beyond the site": (
        [aligned(student="{component: 2.output, neurons: [0, 9]}")],
        ["neurons [0, 9] reach beyond its 4 neurons"],
    ),
    "shapes that do not fit": (
        ["student.network=mistakes.py:wide", aligned(student="{component: 1.output}")],
        ["Sequential cannot be run on inputs of shape [16, 4]"],
    ),
    "other classes": (
        ["student.network=mistakes.py:three", aligned(student="{component: 1.output}")],
        ["the teacher answers among 2 classes, student among 3"],
    ),
    "no network": (["student.network=mistakes.py:nothing"], ["returns a NoneType; return a torch.nn.Module"]),
    "a function that fails": (["student.network=mistakes.py:failing"], ["fails (KeyError: 'digits')"]),
    "one set of rows": (["data.path=mistakes.py:one"], ["returns a dict; return two"]),
    "other labels": (["data.path=mistakes.py:mislabelled"], ["it answers otherwise than the labels"]),
    "columns of other lengths": (["data.path=mistakes.py:unequal"], ["column 'labels' has 3 rows", "300"]),
    "no domain to draw from": (
        ["data={source: program}"],
        ["input 'inputs' has no domain to draw from; give it one, or give data.path"],
    ),
    "no path": (["data={}"], ["data: source function and path need each other"]),
    "too many rows": (["data.train_rows=5000"], ["5,000 rows are asked for, but the function returns 300"]),
    "unknown setting": (["training.stepps=3"], ['training.stepps: unknown setting, did you mean "steps"?']),
    "another unknown setting": (["training={max_steps: 3}"], ["training.max_steps: unknown setting"]),
    "no steps": (["training={}"], ["training.steps: this key is missing"]),
    "a program with chance": (
        ["teacher.program=mistakes.py:chance", "data.path=mistakes.py:labelled"],
        ["variable 'left' has other values in a second run"],
    ),
    "a program that mixes rows": (
        ["teacher.program=mistakes.py:across", "data.path=mistakes.py:labelled"],
        ["variable 'left' has other values if it is computed without the other rows"],
    ),
    "a program that changes its inputs": (
        ["teacher.program=mistakes.py:in_place"],
        ["the program, run on data.path", "the function of variable 'left' changes 'inputs' in place"],
    ),
    "a value twice in a domain": (["teacher.program=mistakes.py:twice"], ["variable 'same' holds True twice"]),
    "no weight to train": (
        ["student.network=mistakes.py:untrainable"],
        ["no weight can be trained, since it has none with requires_grad"],
    ),
    "no gradient": (
        ["student.network=mistakes.py:detached", IN_NET, VERIFIED],
        ["no weight can be trained, since its answers are computed without gradients"],
    ),
    "infinite answers": (
        ["student.network=mistakes.py:infinite", IN_NET, VERIFIED],
        ["student: answers are NaN or infinite in 16 of 16 rows"],
    ),
    "a network that mixes rows": (
        ["student.network=mistakes.py:together", IN_NET, VERIFIED],
        ["student: a row's answer depends on the other rows of its batch"],
    ),
    "inputs that are not finite": (
        ["data.path=mistakes.py:unfinished"],
        ["column 'inputs' holds NaN or infinity, first in row 0"],
    ),
    "hidden states of a program": (["arms.iit.weights={task: 1, cos: 1}"], ["and a program has none"]),
    "neurons of a program's variable": (
        [aligned("{variable: left, neurons: [0, 1]}")],
        ["unknown key `variables.0.teacher.0.neurons`"],
    ),
    "a seed in the training": (["training.seed=3"], ["training.seed: this is set by the config's arms and seed"]),
    "unknown key": (["teacher.programm=x.py:y"], ["teacher.programm: unknown key", 'did you mean "program"?']),
    "unknown loss term": (["arms.iit.weights={tusk: 1}"], ["arms.iit.weights.tusk", 'did you mean "task"?']),
    "swaps without alignment": (["arms.task.weights={causal_ce: 1}"], ["arms.task.weights", "need an alignment"]),
    "no trained weights": (["student.weights=nowhere"], ["student.weights: nowhere/model.safetensors: no such file"]),
}


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, checks that it refuses as it should, and returns what it said."""
    (place / "mistakes.py").write_text(MISTAKES)
    (place / "cycle.py").write_text(CYCLE)

    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        told = capsys.readouterr()
        assert exit_.value.code == 2, told.err
        assert told.out == "" and "Traceback" not in told.err
        errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and told.err.endswith(f"{errors[0]}\n"), told.err
        return errors[0]

    return refused


@pytest.mark.parametrize("name", WRONG)
def test_a_run_refuses_in_one_line(refused: Callable[..., str], place: Path, name: str) -> None:
    overrides, words = WRONG[name]
    said = refused("run", "planted.yaml", *overrides, "-o", "run")
    for word in words:
        assert word in said, said
    assert not (place / "run").exists()


def test_a_key_that_is_valid_elsewhere_is_not_proposed_for_itself(refused: Callable[..., str]) -> None:
    assert "did you mean" not in refused("run", "planted.yaml", aligned("{variable: left, neurons: [0, 1]}"), "-o", "x")


def warned(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["validate", "planted.yaml", *overrides])
    assert exit_.value.code == 0
    return capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_an_input_that_reaches_the_answer_past_the_alignment_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "past the aligned variables" not in warned(capsys)
    said = warned(capsys, aligned(), VERIFIED)
    assert said.count("verification: the answer depends on inputs past the aligned variables") == 1
    assert "arms.iit" not in said, "the same alignment twice"


def test_sites_that_no_answer_depends_on_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "dead.py").write_text(DEAD)
    assert "moves none of its logits" not in warned(capsys)
    said = warned(capsys, "student.network=dead.py:network")
    assert said.count('verification: swapping "left" in the student moves none of its logits in 16 rows') == 1, said
    assert '"right"' not in said


def test_verbs_of_text_refuse_in_one_line(refused: Callable[..., str]) -> None:
    assert "its teacher is a program or a network of torch" in refused("trace", "planted.yaml", "--neurons")
    assert "its teacher is a program or a network of torch" in refused("trace", "planted.yaml")


def test_a_file_that_is_damaged_is_one_line(refused: Callable[..., str], place: Path) -> None:
    (place / "planted.py").write_text("program = (\n")
    assert "planted.py can't be loaded (SyntaxError" in refused("validate", "planted.yaml")
