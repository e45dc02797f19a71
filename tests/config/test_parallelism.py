"""What a config or the environment asks of accelerate is done, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import DistributedType

from iit_toolkit.config.parallelism import refuse_other_kind, refuse_other_training
from iit_toolkit.distillation.config import CausalDistillationConfig, training_config
from iit_toolkit.downstream.arguments import training_arguments
from iit_toolkit.errors import UserError

SETTINGS: list[tuple[str, Any]] = [
    ("fsdp", "full_shard"),
    ("fsdp", True),
    ("fsdp", ["full_shard", "auto_wrap"]),
    ("fsdp_config", {"min_num_params": 100}),
    ("deepspeed", "ds_config.json"),
    ("deepspeed", {"zero_optimization": {"stage": 2}}),
    ("parallelism_config", {"tp_size": 2}),
    ("accelerator_config", {"split_batches": True}),
    ("accelerator_config", {"even_batches": False}),
    ("auto_find_batch_size", True),
]
VARIABLES = [
    ("ACCELERATE_USE_FSDP", "true"),
    ("ACCELERATE_USE_DEEPSPEED", "1"),
    ("ACCELERATE_USE_MEGATRON_LM", "yes"),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", "true"),
    ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"),
    ("ACCELERATE_MIXED_PRECISION", "bf16"),
    ("ACCELERATE_MIXED_PRECISION", "fp8"),
    ("ACCELERATE_TORCH_DEVICE", "meta"),
    ("FSDP_SHARDING_STRATEGY", "FULL_SHARD"),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_another_way_to_train_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^training\.{name}: .*leave it out$"):
        training_config("unused", {name: value})
    with pytest.raises(UserError, match=rf"^tasks\.rte\.training\.{name}: .*leave it out$"):
        training_arguments({name: value}, 0, "tasks.rte.training", "unused")


@pytest.mark.parametrize("name", ["torch_compile", "torch_compile_backend", "torch_compile_mode"])
def test_a_distillation_is_not_said_to_be_compiled(name: str) -> None:
    with pytest.raises(UserError, match=rf"^training\.{name}: .*not compiled"):
        training_config("unused", {name: True if name == "torch_compile" else "inductor"})


def test_what_is_off_is_taken() -> None:
    off = training_config("unused", {"fsdp": False, "auto_find_batch_size": False, "deepspeed": None})
    refuse_other_training(off)


@pytest.mark.parametrize(("name", "value"), VARIABLES)
def test_a_variable_that_asks_for_another_training_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CausalDistillationConfig("unused", use_cpu=True)
    monkeypatch.setenv(name, value)
    for refused in (
        lambda: training_config("unused", {}),
        lambda: training_arguments({}, 0, "tasks.rte.training", "unused"),
        lambda: refuse_other_training(settings),
    ):
        with pytest.raises(UserError, match=f"{name}={value}.*unset it"):
            refused()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_USE_FSDP", "false"),
        ("ACCELERATE_DYNAMO_BACKEND", "NO"),
        ("ACCELERATE_MIXED_PRECISION", "no"),
        ("ACCELERATE_USE_CPU", "False"),
    ],
)
def test_what_accelerate_launch_sets_by_default_is_taken(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    refuse_other_training(training_config("unused", {}))


def test_a_variable_that_says_what_the_settings_say_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert training_config("unused", {"bf16": True}).mixed_precision == "bf16"


def test_settings_made_in_python_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^args\.accelerator_config: "):
        refuse_other_training(CausalDistillationConfig(str(tmp_path), accelerator_config={"split_batches": True}))
    with pytest.raises(UserError, match=r"^args\.fsdp: "):
        refuse_other_training(CausalDistillationConfig(str(tmp_path), fsdp="full_shard"))


@pytest.mark.parametrize("backend", ["nccl", "mpi", "no-such"])
def test_processes_are_joined_by_what_joined_them(backend: str) -> None:
    with pytest.raises(UserError, match=rf"^training\.ddp_backend: .*joined by gloo here, not {backend}"):
        training_config("unused", {"ddp_backend": backend, "use_cpu": True})


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "XLA", "MEGATRON_LM"])
def test_what_accelerate_made_of_it_is_one_copy_each(kind: str) -> None:
    refuse_other_kind(DistributedType.NO)
    refuse_other_kind(DistributedType.MULTI_GPU)
    with pytest.raises(UserError, match=f"would train by {kind}"):
        refuse_other_kind(DistributedType(kind))
