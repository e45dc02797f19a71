"""Swaps in a ViT and a ResNet of transformers are those of hooks written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, Site, resolve
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Swap
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.left_out import left_out
from iit_toolkit.interchange.network import NetworkSide
from iit_toolkit.interchange.sides import new_subspaces, side_of
from tests import images as given

ROWS = 6
VIT, RESNET = "model.vit.layers.0", "model.resnet.encoder.stages.1"
Put = Callable[[Tensor, Tensor], None]


def made(network: Callable[[], nn.Module], *, training: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return network().double().train(training)


def swap() -> Swap:
    """Every row but the last takes from the next."""
    mask = (torch.arange(ROWS) < ROWS - 1)[:, None]
    return Swap(torch.arange(ROWS).roll(-1), mask, torch.zeros(ROWS, 1, dtype=torch.long))


def by_hooks(network: nn.Module, path: str, inputs: Tensor, put: Put) -> Tensor:
    """Note what a module gives by a hook, then put a part of it into another run by another hook."""
    module, noted = network.get_submodule(path), list[Tensor]()
    handle = module.register_forward_hook(lambda _module, _args, output: noted.append(output.clone()))
    network(inputs)
    handle.remove()

    def swapped(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        changed, sources = output.clone(), noted[0].roll(-1, 0)
        put(changed[:-1], sources[:-1])
        return changed

    handle = module.register_forward_hook(swapped)
    logits = network(inputs)
    handle.remove()
    return logits


def patches(changed: Tensor, sources: Tensor) -> None:
    changed[:, given.TOP[0]], changed[:, given.TOP[1], 2:5] = sources[:, given.TOP[0]], sources[:, given.TOP[1], 2:5]


def channels(changed: Tensor, sources: Tensor) -> None:
    changed[:, 2:5] = sources[:, 2:5]


CASES: dict[str, tuple[Callable[[], nn.Module], str, Sequence[tuple[int, int]], Put]] = {
    "patches of a ViT": (given.vit, VIT, [(given.WIDTH, 2 * given.WIDTH), (2 * given.WIDTH + 2, 2 * given.WIDTH + 5)],
                         patches),
    "channels of a stage": (given.resnet, RESNET, [(2, 5)], channels),
    "channels that the block adds to in place": (given.resnet, f"{RESNET}.layers.0.layer", [(2, 5)], channels),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True])  # in training, batch normalisation reads the batch
@pytest.mark.parametrize("case", CASES)
def test_swaps_are_those_of_hooks_by_hand_with_their_gradients(case: str, training: bool) -> None:
    network, path, ranges, put = CASES[case]
    one, inputs = made(network, training=training), given.images(ROWS, 0)["inputs"].double()
    alignment = Alignment.pairs(v=(0, [Site.module(f"{path}.output", neurons) for neurons in ranges]))
    side = NetworkSide(one, resolve(alignment, one, "student"))
    run = side.base_run({"inputs": inputs}, ["v"])
    found = side.logits(side.counterfactual_run(run, "v", swap()))
    expected = by_hooks(one, path, inputs, put)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found[:-1], one(inputs)[:-1], atol=1e-6)
    weights = [weight for weight in one.parameters() if weight.requires_grad]
    slopes = [
        torch.autograd.grad(logits.square().sum(), weights, allow_unused=True, materialize_grads=True)
        for logits in (found, expected)
    ]
    for mine, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    assert any(bool(slope.abs().sum() > 0) for slope in slopes[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_swap_leaves_the_layout_of_feature_maps_as_it_is(layout: torch.memory_format) -> None:
    network = made(given.resnet).to(memory_format=layout)
    alignment = Alignment.pairs(v=(0, Site.module("model.resnet.encoder.stages.0.output", (2, 5))))
    side = NetworkSide(network, resolve(alignment, network, "student"))
    layouts: list[tuple[int, ...]] = []
    after = network.get_submodule("model.resnet.encoder.stages.1")
    after.register_forward_pre_hook(lambda _module, args: layouts.append(args[0].stride()))
    inputs = given.images(ROWS, 0)["inputs"].double().contiguous(memory_format=layout)
    run = side.base_run({"inputs": inputs}, ["v"])
    own = Swap(torch.arange(ROWS), torch.ones(ROWS, 1).bool(), torch.zeros(ROWS, 1).long())
    for one in (swap(), own):
        found = side.logits(side.counterfactual_run(run, "v", one))
    assert torch.equal(found, side.logits(run))
    assert len(set(layouts)) == 1 and len(layouts) == 3


def test_neurons_of_feature_maps_are_channels() -> None:
    network = made(given.resnet)
    alignment = Alignment.pairs(v=(0, Site.module(f"{RESNET}.output", (2, 5))))
    side = NetworkSide(network, resolve(alignment, network, "student"))
    run = side.base_run({"inputs": given.images(ROWS, 0)["inputs"].double()}, ["v"])
    [place] = side.places("v")
    assert run.activations[place].shape == (ROWS, 2, 8)
    assert side.aligned_activation(run, "v").shape == (ROWS, 1, 2 * 3)
    [rest] = left_out(side, "v", {place: 8})
    assert rest.ranges == ((0, 2), (5, 8))
    with pytest.raises(UserError, match=r"neurons \[7, 9\] reach beyond its 8 neurons"):
        beyond = Alignment.pairs(v=(0, Site.module(f"{RESNET}.output", (7, 9))))
        NetworkSide(network, resolve(beyond, network, "student")).counterfactual_run(run, "v", swap())


@pytest.mark.parametrize("network", [given.vit, given.resnet])
def test_a_model_that_nothing_holds_is_refused_in_one_line(network: Callable[[], given.Classifier]) -> None:
    bare, alignment = network().model, Alignment.pairs(v=("top", Site.module("classifier.input")))
    message = f"{type(bare).__name__} reads pixel_values, but the rows hold `inputs`; give a torch.nn.Module that holds"
    with pytest.raises(UserError, match=message) as caught:
        train_network(bare, given.program, alignment, TensorRows(labelled(ROWS)), steps=1)
    assert "\n" not in str(caught.value)


def test_sites_of_other_sizes_are_refused_in_one_line() -> None:
    other = Site.module(f"{RESNET}.output").model_copy(
        update={"read": Site.module(f"{RESNET}.layers.0.layer.0.output")}
    )
    smaller = Site.module(f"{RESNET}.output").model_copy(
        update={"read": Site.module("model.resnet.encoder.stages.2.output")}
    )
    network, inputs = made(given.resnet), given.images(ROWS, 0)["inputs"].double()
    for site, fits in ((other, True), (smaller, False)):
        side = NetworkSide(network, resolve(Alignment.pairs(v=(0, site)), network, "student"))
        run = side.base_run({"inputs": inputs}, ["v"])
        if fits:
            side.counterfactual_run(run, "v", swap())
            continue
        with pytest.raises(
            UserError, match=r"neurons\) \[6, 2, 8\], but .* takes from, holds \[6, 1, 8\]; read a site"
        ):
            side.counterfactual_run(run, "v", swap())


def test_directions_of_feature_maps_are_directions_of_channels() -> None:
    network, rows = made(given.resnet), TensorRows(labelled(ROWS))
    alignment = Alignment.pairs(v=(0, Site.learned(f"{RESNET}.output", 2)))
    subspaces: LearnedSubspaces = new_subspaces(network, alignment, rows)
    directions = subspaces.basis("v/0")
    assert directions.shape == (8, 2)
    side: Any = side_of(network, alignment, "student", subspaces=subspaces)
    inputs = rows.columns["inputs"]
    found = side.logits(side.counterfactual_run(side.base_run({"inputs": inputs}, ["v"]), "v", swap()))

    def part(changed: Tensor, sources: Tensor) -> None:
        changed += torch.einsum("bchw,cr,dr->bdhw", sources - changed, directions, directions)

    torch.testing.assert_close(found, by_hooks(network, RESNET, inputs, part), rtol=0, atol=1e-10)


def labelled(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    columns = given.images(count, seed)
    labels = given.program.answers(given.program.run(columns))
    return {**columns, "inputs": columns["inputs"].to(dtype), "labels": labels}


W = given.WIDTH
SITES = {
    "vit": {"top": Site.module(f"{VIT}.output", (W, 3 * W)), "bottom": Site.module(f"{VIT}.output", (3 * W, 5 * W))},
    "resnet": {"top": Site.module(f"{RESNET}.output", (0, 3)), "bottom": Site.module(f"{RESNET}.output", (3, 6))},
}


@pytest.mark.parametrize("name", SITES)
def test_a_program_trains_a_network_of_images(name: str) -> None:
    """Interchanges that training never saw give the program's answers; the same network without them does not."""
    torch.manual_seed(1)
    network, alignment = getattr(given, name)(), Alignment.pairs(positions="all", **_pairs(name))
    rows = TensorRows(labelled(512, dtype=torch.float32))
    train_network(network, given.program, alignment, rows, steps=60, batch_size=64, learning_rate=0.01)
    held_out = labelled(100, 1, torch.float32)
    for variable, place in (("top", 0), ("bottom", 1)):
        bright = held_out["bright"].clone()
        bright[:, place] = held_out["bright"].roll(-1, 0)[:, place]
        wanted = (bright[:, 0] == bright[:, 1]).long()
        side: Any = side_of(network, alignment, "student")
        with torch.no_grad():
            run = side.base_run({"inputs": held_out["inputs"]}, [variable])
            whole = Swap(torch.arange(100).roll(-1), torch.ones(100, 1).bool(), torch.zeros(100, 1).long())
            answers = side.logits(side.counterfactual_run(run, variable, whole)).argmax(1)
        assert float((answers == wanted).float().mean()) > 0.95, variable


def _pairs(name: str) -> dict[str, tuple[str, Site]]:
    return {variable: (variable, site) for variable, site in SITES[name].items()}
