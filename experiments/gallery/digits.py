"""The digits of MNIST's test set, at half their size; they are not part of the repository."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

DIGITS = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist" / "t10k.npz"
TRAINING = 8000
"""So many of the 10,000 digits are for training, the others for tests."""


@cache
def all_digits() -> tuple[Tensor, Tensor]:
    """Return all digits (N, 14, 14), between 0 and 1, and their classes (N,)."""
    with np.load(DIGITS) as file:
        images, classes = torch.tensor(file["images"]), torch.tensor(file["labels"]).long()
    return avg_pool2d(images[:, None].float() / 255, 2)[:, 0], classes
