"""The gallery's two digits: images and answers against plain Python, sites against the networks' own tensors."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.interchange.sides import side_of


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, gallery_module: Callable[[str], ModuleType]) -> Any:
    """The task, with digits that are as bright as their class says; none of those for training is one for tests."""
    found: Any = gallery_module("vision")
    classes = torch.arange(10).repeat(1000)
    shade = 1 + classes.float() + (torch.arange(10_000) >= 8000) / 2
    monkeypatch.setattr(found, "all_digits", lambda: (shade[:, None, None].expand(-1, 14, 14), classes))
    monkeypatch.setattr(found, "ROWS", 300)
    monkeypatch.setattr(found, "TEST_ROWS", 200)
    return found


def test_answers_are_those_of_the_digits_that_images_show(module: Any) -> None:
    training, test = module.columns(0), module.tests()["test"]
    assert (len(training["labels"]), len(test["labels"])) == (300, 200)
    more = module.augmented(training)
    for rows, fraction in ((training, 0), (more, 0), (test, 0.5)):
        values = module.program().run(rows)
        for place, (image, label) in enumerate(zip(rows["inputs"], rows["labels"].tolist(), strict=True)):
            top, bottom = image[0, :14], image[0, 14:]
            shown = [float(half.mean()) - 1 - fraction for half in (top, bottom)]
            assert image.shape == (1, 28, 14) and top.unique().numel() == bottom.unique().numel() == 1
            assert shown == rows["digits"][place].tolist() == [int(values[name][place]) for name in ("top", "bottom")]
            assert label == (shown[0] % 2 == shown[1] % 2)
    changed = more["digits"] != training["digits"]
    assert int(changed.sum(1).max()) == 1 and all(0.3 < float(one) < 0.6 for one in changed.float().mean(0))
    assert not torch.equal(module.columns(1)["inputs"], training["inputs"])


@pytest.mark.parametrize("name", ["VIT", "RESNET"])
def test_the_crossed_alignment_gives_every_variable_the_sites_of_another(module: Any, name: str) -> None:
    task = getattr(module, name)
    right, crossed = task.alignment(), task.alignment(crossed=True)
    assert all(mine.student != other.student for mine, other in zip(right.variables, crossed.variables, strict=True))
    assert set(task.sites) <= set(task.program.domains)


def test_sites_are_patches_neurons_of_the_class_token_and_channels(module: Any) -> None:
    batch = TensorRows({name: column[:4] for name, column in module.columns(0).items()}).batch(torch.arange(4))
    found: dict[str, dict[str, torch.Tensor]] = {}
    states: list[torch.Tensor] = []
    for name, at in (("VIT", "vit.layers"), ("RESNET", "resnet.encoder.stages")):
        task = getattr(module, name)
        network = task.network(0).eval()
        for block in network.model.get_submodule(at):
            block.register_forward_hook(lambda _module, _inputs, output: states.append(output))
        with torch.no_grad():
            side: Any = side_of(network, task.alignment(), "student")
            run = side.base_run(side.reads(batch), task.sites)
        found[name] = {variable: side.aligned_activation(run, variable)[:, 0] for variable in task.sites}
    assert [tuple(state.shape[1:]) for state in states] == [(5, 64)] * 3 + [(32, 7, 4), (64, 4, 2), (64, 2, 1)]
    assert torch.equal(found["VIT"]["top"], states[0][:, 1:3].flatten(1))
    assert torch.equal(found["VIT"]["bottom"], states[0][:, 3:5].flatten(1))
    assert torch.equal(found["VIT"]["top_odd"], states[1][:, 0, :16])
    assert torch.equal(found["VIT"]["bottom_odd"], states[1][:, 0, 16:32])
    for place, variable in enumerate(("top_odd", "bottom_odd")):
        channels = states[4][:, 16 * place : 16 * (place + 1)]
        assert torch.equal(found["RESNET"][variable], channels.flatten(2).transpose(1, 2).flatten(1))


def test_tokens_of_a_digit_are_made_of_its_pixels(module: Any) -> None:
    images = module.columns(0)["inputs"][:2]
    other = images.clone()
    other[:, :, :14] += 1
    embed = module.vit(0).eval().model.vit.embeddings
    with torch.no_grad():
        changed = (embed(images) != embed(other)).any(-1)
    assert changed.tolist() == [[False, True, True, False, False]] * 2
