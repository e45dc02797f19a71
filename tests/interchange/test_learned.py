"""Learned sites: swaps and gradients are those of plain hooks, files give back every bit, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, Site, resolve
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from iit_toolkit.interchange.certify import certify
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.left_out import left_out_side
from iit_toolkit.interchange.sides import new_subspaces, side_of
from tests.cases import ragged_swap
from tests.families import HIDDEN, make_batch, make_model
from tests.twin import hook

ROWS = 6


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def learned(*sites: Site) -> Alignment:
    return Alignment.pairs(v=(0, list(sites)), w=(0, Site.learned("3.output", 1)))


def rotation(subspaces: LearnedSubspaces, key: str) -> Tensor:
    """W (D, r), with its graph."""
    layer: Any = subspaces[key].rotate_layer
    return layer.weight


def test_swaps_of_a_network_equal_a_plain_loop_with_gradients_of_rotation_and_weights() -> None:
    network = mlp()
    alignment = learned(Site.learned("1.output", 2), Site.module("3.output", (0, 3)))
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    subspaces = new_subspaces(network, alignment, {"inputs": inputs}, seed=3)
    swap = Swap(torch.arange(ROWS).roll(-1), torch.ones(ROWS, 1, dtype=torch.bool), torch.zeros(ROWS, 1).long())
    swap.mask[-1] = False
    side = side_of(network, alignment, "student", subspaces=subspaces)
    found = side.logits(side.counterfactual_run(side.base_run({"inputs": inputs}, ["v"]), "v", swap))
    basis, expected = rotation(subspaces, "v/0"), []
    for row in range(ROWS):
        first, other = network[:2](inputs[row]), network[:2](inputs[(row + 1) % ROWS])
        second, third = network[2:4](first), network[2:4](other)
        if row < ROWS - 1:
            changed = first + sum(((other - first) @ basis[:, one]) * basis[:, one] for one in range(2))
            second = torch.cat([third[:3], network[2:4](changed)[3:]])
        expected.append(network[4](second))
    plain = torch.stack(expected)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)
    assert not torch.allclose(found, network(inputs))
    weights = torch.arange(1.0, found.numel() + 1).view_as(found).double()
    trained = [*network.parameters(), *subspaces["v/0"].parameters()]
    mine, theirs = (torch.autograd.grad((logits * weights).sum(), trained) for logits in (found, plain))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert float(mine[-1].abs().max()) > 1e-3


@pytest.mark.parametrize("share_prefix", [True, False])
def test_swaps_in_a_transformer_equal_plain_hooks_with_gradients_of_rotation_and_weights(share_prefix: bool) -> None:
    model = make_model("bert", torch.float64).eval()
    inputs, eligible = make_batch("bert", torch.float64)
    swap = ragged_swap(eligible)
    site = [{"layer": 0, "component": "block_output", "subspace": {"rank": 3}}]
    content = [{"name": "v", "teacher": [{"layer": 0, "component": "block_output"}], "student": site}]
    alignment = Alignment.from_dict({"name": "learned", "variables": content})
    subspaces = new_subspaces(model, alignment).double()
    sites = resolve(alignment, model, "student")
    side = InterchangeModel(model, sites, share_prefix=share_prefix, subspaces=subspaces)
    found = side.logits(side.counterfactual_run(side.base_run(inputs, ["v"]), "v", swap))
    block: Any = model.bert.encoder.layer[0]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    handle = block.register_forward_hook(keep)
    base = model(**inputs).logits
    handle.remove()
    basis = rotation(subspaces, "v/0")

    def overwrite(value: Tensor) -> Tensor:
        rows: list[Tensor] = []
        for row in range(len(value)):
            for position in range(value.shape[1]):
                vector = value[row, position]
                if swap.mask[row, position]:
                    taken = kept[0][int(swap.source[row]), int(swap.source_position[row, position])]
                    vector = vector + basis @ (basis.T @ (taken - vector))
                rows.append(vector)
        return torch.stack(rows).view(value.shape)

    handle = hook(block, "output", overwrite)
    plain = model(**inputs).logits.flatten(0, 1)
    handle.remove()
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-10)
    assert not torch.allclose(plain, base.flatten(0, 1), atol=1e-3)
    trained = [weight for weight in (*model.parameters(), *subspaces.parameters()) if weight.requires_grad]
    mine, theirs = (
        cast(
            tuple[Tensor | None, ...],
            torch.autograd.grad(logits.log_softmax(-1)[:, 7].sum(), trained, allow_unused=True),
        )
        for logits in (found, plain)
    )
    for one, other in zip(mine, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    assert mine[-1] is not None and float(mine[-1].abs().max()) > 1e-3


def test_what_subspaces_leave_out_is_swapped_as_plain_hooks_do_with_gradients_of_both_rotations() -> None:
    model = make_model("bert", torch.float64).eval()
    inputs, eligible = make_batch("bert", torch.float64)
    swap = ragged_swap(eligible)
    alignment = Alignment.pairs(v=(0, Site.learned(0, 3)), w=(0, Site.learned(0, 4)))
    subspaces = new_subspaces(model, alignment, seed=6).double()
    side = side_of(model, alignment, "student", subspaces=subspaces)
    base = side.base_run(inputs, ["v"])
    rest = left_out_side(side, base, "v")
    found = rest.logits(rest.counterfactual_run(base, "v", swap))
    block: Any = model.bert.encoder.layer[0]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    handle = block.register_forward_hook(keep)
    model(**inputs)
    handle.remove()
    both = torch.cat([rotation(subspaces, f"{name}/0") for name in ("v", "w")], 1)
    projector = both @ torch.linalg.inv(both.T @ both) @ both.T

    def overwrite(value: Tensor) -> Tensor:
        moved = torch.stack([kept[0][int(swap.source[row])][swap.source_position[row]] for row in range(len(value))])
        difference = (moved - value) * swap.mask[:, :, None]
        return value + difference - difference @ projector

    handle = hook(block, "output", overwrite)
    plain = model(**inputs).logits.flatten(0, 1)
    handle.remove()
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-10)
    trained = [*block.parameters(), *subspaces.parameters()]
    mine, theirs = (torch.autograd.grad(logits.log_softmax(-1)[:, 7].sum(), trained) for logits in (found, plain))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    assert min(float(one.abs().max()) for one in mine[-2:]) > 1e-3


def test_certification_swaps_random_subspaces_and_refuses_one_that_is_too_wide() -> None:
    teacher, student = make_model("bert").eval().requires_grad_(False), make_model("bert")
    inputs, eligible = make_batch("bert")
    batch = {**inputs, "labels": inputs["input_ids"], "special_tokens_mask": ~eligible}
    for rank, fits in ((HIDDEN - 1, True), (HIDDEN, False)):
        alignment = Alignment.pairs(v=(0, Site.learned(0, rank)))
        checks = certify(teacher, student, alignment, batch, pad=0)
        failed = [check for check in checks if not check.passed]
        assert bool(failed) == (not fits)
        if failed:
            assert f"give a rank of 1 to {HIDDEN - 1}" in failed[0].detail


def test_a_file_gives_back_every_bit_and_loads_in_stock_pyvene(tmp_path: Path) -> None:
    import pyvene as pv

    network, inputs = mlp(), torch.randn(2, 5).double()
    subspaces = new_subspaces(network, learned(Site.learned("1.output", 2)), {"inputs": inputs}, seed=1)
    for parameter in subspaces.parameters():
        parameter.data += 0.1
    subspaces.steps = 7
    subspaces.save(tmp_path / "s.safetensors")
    again = LearnedSubspaces.load(tmp_path / "s.safetensors")
    assert again.steps == 7 and again.places == subspaces.places and list(again) == ["v/0", "w/0"]
    for key in subspaces:
        assert torch.equal(again.basis(key), subspaces.basis(key))
        for mine, theirs in zip(again[key].parameters(), subspaces[key].parameters(), strict=True):
            assert torch.equal(mine, theirs)
    stock = pv.LowRankRotatedSpaceIntervention(embed_dim=8, low_rank_dimension=2).double()
    stock.load_state_dict(again["v/0"].state_dict())
    base, source = torch.randn(4, 8).double(), torch.randn(4, 8).double()
    basis = subspaces.basis("v/0")
    torch.testing.assert_close(stock(base, source), base + (source - base) @ basis @ basis.T)


def test_a_start_follows_from_its_seed_and_leaves_model_and_generators_alone() -> None:
    network, rows = mlp().train(), {"inputs": torch.randn(2, 5).double()}
    alignment = learned(Site.learned("1.output", 2))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    first, again, other = (new_subspaces(network, alignment, rows, seed=seed) for seed in (0, 0, 5))
    assert torch.equal(torch.rand(3), expected) and network.training
    assert torch.equal(first.basis("v/0"), again.basis("v/0"))
    assert not torch.allclose(first.basis("v/0"), other.basis("v/0"), atol=0.05)


def damaged(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "damaged.safetensors"
    if kind == "text":
        path.write_text("no weights")
    elif kind == "other":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    elif kind == "cut":
        places = new_subspaces(mlp(), learned(Site.learned("1.output", 2)), {"inputs": torch.randn(2, 5).double()})
        places.save(path)
        path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize("kind", ["missing", "text", "other", "cut"])
def test_other_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match="no file of learned subspaces") as caught:
        LearnedSubspaces.load(damaged(tmp_path, kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"subspace": {"rank": 2}, "neurons": [0, 4]}, "`subspace`, or `neurons` or `heads`, not both"),
        ({"subspace": {"rank": 0}}, "greater than or equal to 1"),
        ({"subspace": {"rank": 2.5}}, "subspace.rank"),
        ({"subspace": {"rank": 2, "dims": 3}}, "unknown key"),
        ({"subspace": 2}, "needs keys, such as"),
        ({"subspace": {"rank": 2}, "read": {"layer": 0, "component": "block_input"}}, "leave out `read`"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(student: dict[str, Any], said: str) -> None:
    place = {"layer": 0, "component": "block_output"}
    with pytest.raises(UserError, match=said) as caught:
        variables = [{"name": "v", "teacher": [place], "student": [place | student]}]
        Alignment.from_dict({"name": "n", "variables": variables})
    assert "\n" not in str(caught.value)


def test_a_subspace_beside_neurons_of_the_same_place_is_refused() -> None:
    for other in (Site.module("1.output", (0, 2)), Site.learned("1.output", 1)):
        with pytest.raises(UserError, match="two sites write the same neurons of 1.output; a `subspace` is one of all"):
            resolve(learned(Site.learned("1.output", 2), other), mlp(), "student")


def test_subspaces_that_are_missing_too_wide_or_of_other_sites_are_refused() -> None:
    network, rows = mlp(), {"inputs": torch.randn(2, 5).double()}
    alignment = learned(Site.learned("1.output", 2))
    with pytest.raises(UserError, match="none are given"):
        side_of(network, alignment, "student")
    with pytest.raises(UserError, match=r"its rank is 8, but the site has 8 neurons; give a rank of 1 to 7"):
        new_subspaces(network, learned(Site.learned("1.output", 8)), rows)
    with pytest.raises(UserError, match="no site has a `subspace`"):
        new_subspaces(network, Alignment.pairs(v=(0, Site.module("1.output"))), rows)
    with pytest.raises(UserError, match="need rows"):
        new_subspaces(network, alignment)
    others = new_subspaces(network, learned(Site.learned("1.output", 3)), rows)
    with pytest.raises(UserError, match="which are not the alignment's"):
        side_of(network, alignment, "student", subspaces=others)
    with pytest.raises(UserError, match="leave them out"):
        side_of(network, Alignment.pairs(v=(0, Site.module("1.output"))), "student", subspaces=others)
    with pytest.raises(UserError, match="learned subspace, but none was given"):
        side = InterchangeModel(make_model("bert"), resolve(Alignment.pairs(v=(0, Site.learned(0, 2))),
                                                             make_model("bert"), "student"))  # fmt: skip
        inputs, eligible = make_batch("bert")
        side.counterfactual_run(side.base_run(inputs, ["v"]), "v", ragged_swap(eligible))


def test_alignments_with_subspaces_are_written_and_read_back(tmp_path: Path) -> None:
    alignment = Alignment.pairs(v=(1, Site.learned(1, 16)))
    (tmp_path / "a.yaml").write_text(alignment.to_yaml())
    assert "subspace:\n" in alignment.to_yaml()
    assert Alignment.from_yaml(tmp_path / "a.yaml") == alignment and alignment.learns
    assert "subspace" not in Alignment.pairs(v=(1, 1)).to_yaml()
