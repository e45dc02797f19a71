"""Two digits, one above the other: are both odd, or both even? A ViT and a ResNet of transformers answer.

Both are made from a config, with random first weights. An image has 28 x 14 pixels, 14 x 14 of each digit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from arms import Columns, Task
from digits import TRAINING, all_digits
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import iit_toolkit as iit

DIGIT = 14
ROWS, TEST_ROWS = 40_000, 1000
ARMS = ("iit", "strict", "task", "wrong-map", "untrained")
PATCHES, WIDTH, PART = 2, 64, 16
"""Of the ViT: patches of each digit, neurons of a token, and those of the class token that hold a variable."""
MAPS, HELD = (32, 64, 64), 16
"""Of the ResNet: channels of its stages, and how many of the second one hold a variable."""


def program() -> iit.CausalModel:
    """Return the program: `digits` (B, 2) are those at the top and at the bottom."""
    return iit.CausalModel(
        parents={
            "digits": (),
            "top": ("digits",),
            "bottom": ("digits",),
            "top_odd": ("top",),
            "bottom_odd": ("bottom",),
            "same": ("top_odd", "bottom_odd"),
        },
        functions={
            "top": lambda digits: digits[:, 0],
            "bottom": lambda digits: digits[:, 1],
            "top_odd": lambda top: top % 2 == 1,
            "bottom_odd": lambda bottom: bottom % 2 == 1,
            "same": torch.eq,
        },
        domains={
            **dict.fromkeys(("top", "bottom"), range(10)),
            **dict.fromkeys(("top_odd", "bottom_odd", "same"), (False, True)),
        },
        answer="same",
    )


def _labelled(images: Tensor, digits: Tensor) -> dict[str, Tensor]:
    model = program()
    return {"inputs": images, "digits": digits, "labels": model.answers(model.run({"digits": digits}))}


def _pairs(count: int, seed: int, *, train: bool) -> dict[str, Tensor]:
    """Return images (N, 1, 28, 14) of two digits each, drawn from those for training or from the others."""
    images, classes = all_digits()
    low, high = (0, TRAINING) if train else (TRAINING, len(images))
    chosen = torch.randint(low, high, (count, 2), generator=torch.Generator().manual_seed(seed))
    return _labelled(images[chosen].flatten(1, 2)[:, None], classes[chosen])


def columns(seed: int) -> Columns:
    """Return training rows."""
    return _pairs(ROWS, seed, train=True)


def tests() -> Mapping[str, Columns]:
    """Return test rows of other digits."""
    return {"test": _pairs(TEST_ROWS, 10_000, train=False)}


def augmented(rows: Columns) -> Columns:
    """Return counterfactual images: one digit of another image in the place of an image's."""
    images, digits = rows["inputs"], rows["digits"]
    other = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    mine = torch.arange(2)[None] == (torch.arange(len(images)) % 2)[:, None]
    pixels = mine.repeat_interleave(DIGIT, 1)[:, None, :, None]
    return _labelled(torch.where(pixels, images[other], images), torch.where(mine, digits[other], digits))


class Classifier(nn.Module):
    """A classifier of transformers that takes images and gives logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 2) of images (B, 1, 28, 14)."""
        return self.model(pixel_values=inputs).logits


def vit(seed: int) -> Classifier:
    """Return an untrained ViT. It reads five tokens: that of the class, two patches of the top, two of the bottom."""
    torch.manual_seed(seed)
    config = ViTConfig(
        image_size=(2 * DIGIT, DIGIT),
        patch_size=(DIGIT // PATCHES, DIGIT),
        num_channels=1,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=WIDTH**-0.5,
        num_labels=2,
    )
    return Classifier(ViTForImageClassification(config))


def resnet(seed: int) -> Classifier:
    """Return an untrained ResNet of three stages. The second one's output has 4 x 2 places."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=list(MAPS), depths=[1, 1, 1], layer_type="basic", num_labels=2
    )
    return Classifier(ResNetForImageClassification(config))


def _tokens(low: int, high: int) -> iit.Site:
    """Return some whole tokens after the first block."""
    return iit.Site.module("model.vit.layers.0.output", (WIDTH * low, WIDTH * high))


def _class_neurons(place: int) -> iit.Site:
    """Return some neurons of the class token, which comes first, after the second block."""
    return iit.Site.module("model.vit.layers.1.output", (PART * place, PART * (place + 1)))


def _channels(place: int) -> iit.Site:
    """Return some channels of the second stage: neurons of feature maps are channels."""
    return iit.Site.module("model.resnet.encoder.stages.1.output", (HELD * place, HELD * (place + 1)))


VIT = Task(
    program=program(),
    network=vit,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites={
        "top": [_tokens(1, 1 + PATCHES)],
        "bottom": [_tokens(1 + PATCHES, 1 + 2 * PATCHES)],
        "top_odd": [_class_neurons(0)],
        "bottom_odd": [_class_neurons(1)],
    },
    training={"steps": 800, "batch_size": 64, "learning_rate": 0.002},
    arms=ARMS,
    settings={"rows": ROWS, "test_rows": TEST_ROWS, "width": WIDTH, "part": PART},
)
"""The first block ends with each digit at its patches, the second with both parities at the class token."""
RESNET = Task(
    program=program(),
    network=resnet,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites={"top_odd": [_channels(0)], "bottom_odd": [_channels(1)]},
    training={"steps": 400, "batch_size": 64, "learning_rate": 0.003},
    arms=ARMS,
    settings={"rows": ROWS, "test_rows": TEST_ROWS, "maps": list(MAPS), "held": HELD},
)
"""The second stage ends with the parity of each digit in 16 of its 64 channels, at all places."""
