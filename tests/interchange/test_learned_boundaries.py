"""Learned boundaries and shared rotations: swaps and gradients are a plain loop's, files keep what was decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, Site, resolve
from iit_toolkit.alignment.pyvene_io import to_json
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Swap
from iit_toolkit.interchange.learned import LearnedPlace, LearnedSubspaces
from iit_toolkit.interchange.left_out import left_out_side
from iit_toolkit.interchange.sides import new_subspaces, side_of
from tests.families import HIDDEN, make_model
from tests.interchange.test_learned import mlp

ROWS, WIDTH = 6, 8
PLACE = "1.output"
BOTH = Alignment.pairs(
    positions="all",
    v=(0, Site.learned(PLACE, 3, boundary="learned", rotation="shared")),
    w=(0, Site.learned(PLACE, 4, boundary="learned", rotation="shared")),
)


def inputs() -> dict[str, Tensor]:
    return {"inputs": torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}


def subspaces_of(alignment: Alignment = BOTH, **logits: float) -> LearnedSubspaces:
    found = new_subspaces(mlp(), alignment, inputs(), seed=3)
    for name, logit in logits.items():
        boundary = found[f"{name}/0"].boundary_logit
        assert boundary is not None
        boundary.data.fill_(logit)
    return found


def weight(subspaces: LearnedSubspaces, key: str) -> Tensor:
    """The whole rotation (D, R), with its graph."""
    layer: Any = subspaces[key].rotate_layer
    return layer.weight


def logits(network: nn.Sequential, subspaces: LearnedSubspaces, variable: str, *, rest: bool = False) -> Tensor:
    swap = Swap(torch.arange(ROWS).roll(-1), torch.ones(ROWS, 1, dtype=torch.bool), torch.zeros(ROWS, 1).long())
    side = side_of(network, BOTH, "student", subspaces=subspaces)
    base = side.base_run(inputs(), [variable])
    swapping = left_out_side(side, base, variable) if rest else side
    return swapping.logits(swapping.counterfactual_run(base, variable, swap))


@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize("variable", ["v", "w"])
def test_a_swap_equals_a_plain_loop_with_gradients_of_rotation_and_boundary(
    variable: str, temperature: float | None
) -> None:
    network, subspaces = mlp(), subspaces_of(v=0.4, w=-0.5)
    first, rank = {"v": (0, 3), "w": (3, 4)}[variable]
    one = subspaces[f"{variable}/0"]
    one.temperature = temperature
    boundary: Any = one.boundary_logit
    edge = rank * boundary.sigmoid()
    hidden, expected = network[:2](inputs()["inputs"]), list[Tensor]()
    for row in range(ROWS):
        changed = hidden[row]
        for column in range(rank):
            direction = weight(subspaces, "v/0")[:, first + column]
            counts = (edge > column + 0.5) if temperature is None else ((edge - column - 0.5) / temperature).sigmoid()
            changed = changed + counts * ((hidden[(row + 1) % ROWS] - hidden[row]) @ direction) * direction
        expected.append(network[2:](changed))
    found, plain = logits(network, subspaces, variable), torch.stack(expected)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)
    counted = torch.arange(1.0, found.numel() + 1).view_as(found).double()
    trained = [*network.parameters(), *subspaces.parameters()]
    mine, theirs = (
        torch.autograd.grad((some * counted).sum(), trained, allow_unused=True, materialize_grads=True)
        for some in (found, plain)
    )
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-11)
    of = {name: float(own.abs().max()) for name, own in zip([*_names(network), *_names(subspaces)], mine, strict=True)}
    moved = [name for name, size in of.items() if name.endswith("boundary_logit") and size > 1e-3]
    assert moved == ([] if temperature is None else [f"_learned.{'vw'.index(variable)}.boundary_logit"])


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def test_variables_share_one_rotation_whose_parts_are_orthogonal() -> None:
    subspaces = subspaces_of(v=9.0, w=9.0)
    assert len(_names(subspaces)) == 3  # one rotation, two boundaries
    both = torch.cat([subspaces.basis("v/0"), subspaces.basis("w/0")], 1)
    assert both.shape == (WIDTH, 7)
    torch.testing.assert_close(both.T @ both, torch.eye(7).double(), atol=1e-6, rtol=0)  # drawn in float32
    own = Alignment.pairs(v=(0, Site.learned(PLACE, 3)), w=(0, Site.learned(PLACE, 4)))
    alone = new_subspaces(mlp(), own, inputs(), seed=3)
    assert float((alone.basis("v/0").T @ alone.basis("w/0")).abs().max()) > 0.1


def test_teacher_and_student_share_nothing() -> None:
    place = LearnedPlace(PLACE, WIDTH, 3, shared=True)
    subspaces = LearnedSubspaces({"v/0": place, "v/teacher-0": place, "w/0": place})
    assert subspaces["v/0"].rotate_layer is subspaces["w/0"].rotate_layer
    assert subspaces["v/0"].rotate_layer is not subspaces["v/teacher-0"].rotate_layer


def test_what_boundaries_leave_out_is_swapped_as_a_plain_loop_does() -> None:
    """Also what two ranks could hold together, but do not."""
    network, subspaces = mlp(), subspaces_of(v=-0.6, w=-0.9)
    assert [subspaces[key].directions for key in subspaces] == [1, 1]
    columns = weight(subspaces, "v/0")[:, [0, 3]]
    hidden = network[:2](inputs()["inputs"])
    difference = hidden.roll(-1, 0) - hidden
    projector = columns @ torch.linalg.inv(columns.T @ columns) @ columns.T  # drawn in float32
    plain = network[2:](hidden + difference - difference @ projector)
    torch.testing.assert_close(logits(network, subspaces, "v", rest=True), plain, rtol=0, atol=1e-12)
    full = Alignment.pairs(v=(0, Site.learned(PLACE, 4, boundary="learned")), w=(0, Site.learned(PLACE, 4)))
    side = side_of(network, full, "student", subspaces=new_subspaces(network, full, inputs()))
    assert left_out_side(side, side.base_run(inputs(), ["v"]), "v")


def test_directions_that_fill_a_site_leave_nothing_out_once_they_are_decided() -> None:
    network = mlp()
    full = Alignment.pairs(
        v=(0, Site.learned(PLACE, 4, boundary="learned", rotation="shared")),
        w=(0, Site.learned(PLACE, 4, rotation="shared")),
    )
    subspaces = new_subspaces(network, full, inputs())
    boundary = subspaces["v/0"].boundary_logit
    assert boundary is not None
    for logit, fills in ((-1.0, False), (30.0, True)):
        boundary.data.fill_(logit)
        training, after = (side_of(network, full, "student", subspaces=one) for one in (subspaces, subspaces.decided()))
        run = training.base_run(inputs(), ["v"])
        assert left_out_side(training, run, "v")
        if not fills:
            assert left_out_side(after, run, "v")
            continue
        with pytest.raises(UserError, match=r"it leaves out no neurons of 1.output"):
            left_out_side(after, run, "v")


def test_progress_hardens_boundaries_to_whole_directions() -> None:
    subspaces = LearnedSubspaces({"v/0": LearnedPlace(PLACE, 40, 32, boundary=True), "w/0": LearnedPlace(PLACE, 40, 2)})
    one = subspaces["v/0"]
    temperatures = list[float | None]()
    for done in (0.0, 0.5, 1.0, None):
        subspaces.set_progress(done)
        temperatures.append(one.temperature)
    assert temperatures == pytest.approx([4.0, (4.0 * 0.1) ** 0.5, 0.1, None])
    assert one.directions == 16 and subspaces.share().item() == 0.5  # those without a boundary do not count


def test_no_boundary_leaves_nothing() -> None:
    """Nor does one that a training has spoilt, which is refused by its weights."""
    assert [subspaces_of(v=-30.0, w=30.0)[key].directions for key in ("v/0", "w/0")] == [1, 4]
    assert subspaces_of(v=float("nan"))["v/0"].directions == 1


def test_a_file_keeps_what_was_decided_and_stock_pyvene_loads_it(tmp_path: Path) -> None:
    import pyvene as pv

    network, subspaces = mlp(), subspaces_of(v=0.5, w=-0.2)
    subspaces.steps = 7
    kept = {"v/0": 2, "w/0": 2}
    decided = subspaces.decided()
    decided.save(tmp_path / "decided.safetensors")
    subspaces.save(tmp_path / "s.safetensors")
    again = LearnedSubspaces.load(tmp_path / "s.safetensors")
    assert again.steps == 7 and {key: place.kept for key, place in again.places.items()} == kept
    assert decided.decided() is decided and decided.places == again.places
    for key in kept:
        torch.testing.assert_close(again.basis(key), subspaces.basis(key), atol=1e-6, rtol=0)
        assert torch.equal(again.basis(key), decided.basis(key))
    assert again.described() == subspaces.described() == decided.described()
    assert again.described()["w/0"] == {"component": PLACE, "neurons": WIDTH, "rank": 4, "directions": 2}
    for one in (subspaces, again):
        assert one.fits(resolve(BOTH, network, "student"), "student")
        torch.testing.assert_close(logits(network, one, "w"), logits(network, subspaces, "w"), rtol=0, atol=1e-6)
    stock = pv.LowRankRotatedSpaceIntervention(embed_dim=WIDTH, low_rank_dimension=2).double()
    file = load_file(tmp_path / "s.safetensors")
    stock.load_state_dict({name.removeprefix("w/0/"): value for name, value in file.items() if name[0] == "w"})
    base, source = torch.randn(4, WIDTH).double(), torch.randn(4, WIDTH).double()
    basis = again.basis("w/0")
    torch.testing.assert_close(stock(base, source), base + (source - base) @ basis @ basis.T)


def test_configs_of_pyvene_say_how_many_directions_there_are() -> None:
    model = make_model("bert")
    alignment = Alignment.pairs(
        v=(0, Site.learned(0, 6, boundary="learned", rotation="shared")), w=(0, Site.learned(0, 4, rotation="shared"))
    )
    document = json.loads(to_json(alignment, model, "student", new_subspaces(model, alignment), "s.safetensors"))
    ranks = [(entry["low_rank_dimension"], entry["embed_dim"]) for entry in document["representations"]]
    assert ranks == [(3, HIDDEN), (4, HIDDEN)]


def test_declarations_are_written_and_read_back_and_decide_what_fits() -> None:
    assert Alignment.from_dict(BOTH.to_dict()) == BOTH and BOTH.learns_boundaries
    text = BOTH.to_yaml()
    assert "boundary: learned" in text and "rotation: shared" in text
    plain = Alignment.pairs(v=(0, Site.learned(PLACE, 3)), w=(0, Site.learned(PLACE, 4)))
    assert "boundary" not in plain.to_yaml() and not plain.learns_boundaries
    network = mlp()
    for one, other in ((BOTH, plain), (plain, BOTH)):
        with pytest.raises(UserError, match="which are not the alignment's"):
            side_of(network, one, "student", subspaces=subspaces_of(other))


@pytest.mark.parametrize(
    ("subspace", "said"),
    [
        ({"rank": 2, "boundary": "soft"}, r"subspace\.boundary`: .*'learned'"),
        ({"rank": 2, "boundary": True}, r"subspace\.boundary"),
        ({"rank": 2, "rotation": "own"}, r"subspace\.rotation`: .*'shared'"),
        ({"boundary": "learned"}, r"subspace\.rank"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(subspace: dict[str, Any], said: str) -> None:
    place = {"layer": 0, "component": "block_output"}
    with pytest.raises(UserError, match=said) as caught:
        variables = [{"name": "v", "teacher": [place], "student": [place | {"subspace": subspace}]}]
        Alignment.from_dict({"name": "n", "variables": variables})
    assert "\n" not in str(caught.value)


def test_ranks_that_no_rotation_holds_are_refused() -> None:
    wide = Alignment.pairs(
        v=(0, Site.learned(PLACE, 5, rotation="shared")), w=(0, Site.learned(PLACE, 4, rotation="shared"))
    )
    said = r"v/0, w/0 share a rotation of 1.output: their ranks add up to 9, but the site has 8 neurons; give ranks"
    with pytest.raises(UserError, match=said) as caught:
        new_subspaces(mlp(), wide, inputs())
    assert "\n" not in str(caught.value)
