from __future__ import annotations

import pytest

from iit_toolkit.config.differences import COSMETIC, different, flat, without_cosmetic
from iit_toolkit.distillation.config import CausalDistillationConfig


def test_every_difference_is_named_with_both_values() -> None:
    one, two = ({"training": {"max_steps": steps, "seed": 1}, "arms": arms} for steps, arms in ((5, {}), (6, {"a": 1})))
    assert different(flat(one), flat(one)) == ""
    said = different(flat(one), flat(two))
    assert said == "arms is None, not {}; arms.a is 1, not None; training.max_steps is 6, not 5"
    many = {f"k{number}": number for number in range(9)}
    assert different({}, many).endswith("; and 6 more differ")
    assert different({"a": "x" * 99}, {"a": 1}) == f"a is 1, not {'x' * 57}..."


def test_what_is_shown_and_kept_is_cosmetic_only_in_trainings() -> None:
    settings = flat({"training": {"logging_steps": 5, "max_steps": 3}, "arms": {"a": {"training": {"save_steps": 2}}}})
    settings |= {"data.logging_steps": 1}
    assert without_cosmetic(settings) == {"training.max_steps": 3, "data.logging_steps": 1}


@pytest.mark.parametrize("name", sorted(COSMETIC))
def test_cosmetic_settings_are_ones_of_the_trainer(name: str) -> None:
    assert name in CausalDistillationConfig.__dataclass_fields__ or name == "logging_dir"
