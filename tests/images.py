"""Tiny images of two halves, and tiny networks of transformers that read them; a config can name all of it.

A half is bright or dark. The answer is whether both halves are alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

import iit_toolkit as iit

SIZE, WIDTH = 8, 8
TOP, BOTTOM = (1, 2), (3, 4)
"""The tokens of either half in the ViT, where token 0 is that of the class."""

program = iit.CausalModel(
    parents={"bright": (), "top": ("bright",), "bottom": ("bright",), "same": ("top", "bottom")},
    functions={"top": lambda bright: bright[:, 0], "bottom": lambda bright: bright[:, 1], "same": torch.eq},
    domains={name: (False, True) for name in ("top", "bottom", "same")},
    answer="same",
)


def images(count: int, seed: int) -> dict[str, Tensor]:
    """Return images (N, 1, 16, 8), and which of their halves are bright (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.rand(count, 2, generator=generator) < 0.5
    noise = torch.randn(count, 1, 2 * SIZE, SIZE, generator=generator) / 4
    return {"inputs": noise + bright.repeat_interleave(SIZE, 1)[:, None, :, None], "bright": bright}


def rows() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return training rows and held-out rows."""
    return images(512, 0), images(200, 1)


class Classifier(nn.Module):
    """A classifier of images that takes one tensor and gives the logits."""

    def __init__(self, model: nn.Module) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        return self.model(pixel_values=inputs).logits


def vit(width: int = WIDTH) -> Classifier:
    """Return a ViT: five tokens, one of them of the class."""
    config = ViTConfig(
        image_size=(2 * SIZE, SIZE), patch_size=(SIZE // 2, SIZE), num_channels=1, hidden_size=width,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * width, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2,
    )  # fmt: skip
    return Classifier(ViTForImageClassification(config))


def small_vit() -> Classifier:
    """Return one of half the width."""
    return vit(WIDTH // 2)


def resnet() -> Classifier:
    """Return a ResNet: its second stage holds 8 maps of 2 x 1."""
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[6, 8, 8], depths=[1, 1, 1], layer_type="basic", num_labels=2
    )
    return Classifier(ResNetForImageClassification(config))
