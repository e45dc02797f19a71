"""Settings that `transformers.TrainingArguments` takes and that training would fail at are refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import TrainingArguments

from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.errors import UserError
from iit_toolkit.trainer_settings import check_settings


@pytest.mark.parametrize("kind", [TrainingArguments, CausalDistillationConfig])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_steps", "abc", "where.max_steps: should be a valid integer, not 'abc'"),
        ("max_steps", 2.5, "where.max_steps: should be a valid integer, not 2.5"),
        ("max_steps", True, "where.max_steps: should be a valid integer, not True"),
        ("learning_rate", "5e-4x", "where.learning_rate: should be a valid number, not '5e-4x'"),
        ("learning_rate", -1.0, "where.learning_rate: should be 0 or more, not -1.0"),
        ("gradient_accumulation_steps", 0, "where.gradient_accumulation_steps: should be 1 or more, not 0"),
        ("per_device_train_batch_size", 0, "where.per_device_train_batch_size: should be 1 or more, not 0"),
        ("eval_strategy", "steps", "where.eval_strategy: models are evaluated after training, and not in it"),
        ("bf16", "yes", "where.bf16: should be a valid boolean, not 'yes'"),
        ("lr_scheduler_type", 3, "where.lr_scheduler_type: should be .* or should be a valid string, not 3"),
        ("max_step", 8, 'where.max_step: unknown setting, did you mean "max_steps"?'),
    ],
)
def test_a_wrong_setting_is_named(kind: type[TrainingArguments], name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(kind, {name: value}, "where")


def test_right_settings_pass() -> None:
    check_settings(
        CausalDistillationConfig,
        {
            "learning_rate": 1,
            "max_steps": -1,
            "warmup_steps": 0.05,
            "lr_scheduler_type": "cosine",
            "save_strategy": "steps",
            "bf16": True,
            "gradient_checkpointing": None,
            "base_tokens": "labelled",
            "interchanges": 2,
            "report_to": ["tensorboard"],
        },
        "training",
    )


def test_every_default_passes() -> None:
    defaults = vars(CausalDistillationConfig("unused", use_cpu=True))
    known = CausalDistillationConfig.__dataclass_fields__
    changed = {"accelerator_config", "parallelism_config", "fsdp", "fsdp_config", "deepspeed"}  # made by transformers
    settings = {name: value for name, value in defaults.items() if name in known and name not in changed}
    assert len(settings) > 80
    check_settings(CausalDistillationConfig, settings, "training")
