"""Settings that `transformers.TrainingArguments` takes and that training would fail at are refused at once."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from iit_toolkit.config.training_arguments import refuse_half_on_cpu, refuse_unusable, require_settings
from iit_toolkit.distillation.config import CausalDistillationConfig, training_config
from iit_toolkit.errors import UserError


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
        ("save_strategy", "best", "where.save_strategy: models are evaluated after training, so none is best in it"),
        ("load_best_model_at_end", True, "where.load_best_model_at_end: models are evaluated after training, and not"),
        ("num_train_epochs", 0, "where.num_train_epochs: should be above 0 and finite, not 0"),
        ("num_train_epochs", -1.0, "where.num_train_epochs: should be above 0 and finite, not -1.0"),
        ("num_train_epochs", float("inf"), "where.num_train_epochs: should be above 0 and finite, not inf"),
        ("num_train_epochs", float("nan"), "where.num_train_epochs: should be above 0 and finite, not nan"),
        ("logging_steps", -1, "where.logging_steps: should be above 0 and finite, not -1"),
        ("save_steps", 0, "where.save_steps: should be above 0 and finite, not 0"),
        ("max_steps", 0, "where.max_steps: should be 1 or more, or -1 for as many as num_train_epochs has, not 0"),
        ("max_steps", -5, "where.max_steps: should be 1 or more, or -1 for as many as num_train_epochs has, not -5"),
        ("weight_decay", -1.0, "where.weight_decay: should be 0 or more, not -1.0"),
        ("learning_rate", float("nan"), "where.learning_rate: should be 0 or more, not nan"),
        ("do_train", False, "where.do_train: models are trained whatever it says; leave it out"),
        ("do_eval", True, "where.do_eval: models are evaluated after training whatever it says; leave it out"),
        ("do_predict", True, "where.do_predict: nothing reads it; leave it out"),
        ("resume_from_checkpoint", "x", "where.resume_from_checkpoint: nothing reads it; .*--resume.*; leave it out"),
        ("push_to_hub", True, "where.push_to_hub: nothing is uploaded in training; leave it out"),
        ("hub_model_id", "me/mine", "where.hub_model_id: nothing is uploaded in training; leave it out"),
        ("hub_always_push", True, "where.hub_always_push: nothing is uploaded in training; leave it out"),
        ("bf16", "yes", "where.bf16: should be a valid boolean, not 'yes'"),
        ("lr_scheduler_type", 3, "where.lr_scheduler_type: should be .* or should be a valid string, not 3"),
        ("learning_rate", float("inf"), "where.learning_rate: should be below 2,147,483,648, not inf"),
        ("warmup_steps", -1, "where.warmup_steps: should be 0 or more, not -1"),
        ("warmup_steps", float("nan"), "where.warmup_steps: should be 0 or more, not nan"),
        ("max_grad_norm", float("nan"), "where.max_grad_norm: should be 0 or more, not nan"),
        ("max_grad_norm", float("inf"), "where.max_grad_norm: should be below 2,147,483,648, not inf"),
        ("weight_decay", float("inf"), "where.weight_decay: should be below 2,147,483,648, not inf"),
        ("adam_beta1", 2, "where.adam_beta1: should be below 1, not 2"),
        ("adam_beta2", -0.1, "where.adam_beta2: should be 0 or more, not -0.1"),
        ("adam_epsilon", float("nan"), "where.adam_epsilon: should be 0 or more, not nan"),
        ("label_smoothing_factor", 1.5, "where.label_smoothing_factor: should be below 1, not 1.5"),
        ("data_seed", 2**32, "where.data_seed: should be below 4,294,967,296, not 4294967296"),
        ("data_seed", -1, "where.data_seed: should be 0 or more, not -1"),
        ("max_steps", 10**12, "where.max_steps: should be below 2,147,483,648, not 1000000000000"),
        ("num_train_epochs", 1e300, "where.num_train_epochs: should be below 2,147,483,648, not 1e.300"),
        ("per_device_train_batch_size", 10**12, "where.per_device_train_batch_size: should be below 1,048,576, not"),
        ("gradient_accumulation_steps", 10**9, "where.gradient_accumulation_steps: should be below 1,048,576, not"),
        ("save_total_limit", 0, "where.save_total_limit: should be 1 or more, not 0"),
        ("dataloader_num_workers", -1, "where.dataloader_num_workers: should be 0 or more, not -1"),
        ("dataloader_num_workers", 10**6, "where.dataloader_num_workers: should be below 1,000, not 1000000"),
        ("logging_steps", 10**10, "where.logging_steps: should be below 2,147,483,648, not"),
        ("ddp_timeout", 0, "where.ddp_timeout: should be 1 or more, not 0"),
        ("lr_scheduler_kwargs", {"a": [float("nan")]}, "where.lr_scheduler_kwargs.a: should be a finite number"),
        ("gradient_checkpointing_kwargs", {"a": 10**30}, "where.gradient_checkpointing_kwargs.a: should be a finite"),
        ("lr_scheduler_kwargs", '{"a": ' + "[" * 5000, "where.lr_scheduler_kwargs: nested more than"),
        ("lr_scheduler_kwargs", '{"a": NaN}', "where.lr_scheduler_kwargs: no valid JSON"),
        ("fsdp_config", "/dev/zero", "where.fsdp_config: several processes train by DDP"),
        ("accelerator_config", "nobody.json", "where.accelerator_config: batches are made"),
        ("deepspeed", "nobody.json", "where.deepspeed: several processes train by DDP"),
        ("debug", "underflow_overflow", "where.debug: its hooks fail on what models return here; leave it out"),
        ("local_rank", 3, "where.local_rank: the launcher gives it; leave it out"),
        ("enable_jit_checkpoint", True, "where.enable_jit_checkpoint: a signal would end .* early.*; leave it out"),
        ("report_to", [["x"]], "where.report_to: "),
        ("max_steps", True, "where.max_steps: should be a valid integer, not True"),
        ("max_steps", 3.0, "where.max_steps: should be a valid integer, not 3.0"),
        ("max_steps", "1:30", "where.max_steps: should be a valid integer, not '1:30'"),
        ("max_steps", None, "where.max_steps: should be a valid integer, not None"),
        ("bf16", "no", "where.bf16: should be a valid boolean, not 'no'; write true or false"),
        ("max_step", 8, 'where.max_step: unknown setting, did you mean "max_steps"?'),
    ],
)
def test_a_wrong_setting_is_named(kind: type[TrainingArguments], name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_settings(kind, {name: value}, "where")


@pytest.mark.parametrize("token", ["hf_secret", 5])
def test_a_token_is_not_repeated(token: Any) -> None:
    with pytest.raises(UserError, match=r"where.hub_token: nothing is uploaded in training; leave it out$"):
        require_settings(TrainingArguments, {"hub_token": token}, "where")


def test_half_precision_needs_a_device_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for accelerated, more in ((False, {}), (True, {"use_cpu": True})):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda there=accelerated: there)
        with pytest.raises(UserError, match="where.fp16: a CPU would train in float32; use bf16, or leave it out"):
            refuse_half_on_cpu({"fp16": True, **more}, "where")
    refuse_half_on_cpu({"fp16": True}, "where")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "many"}},
            "could not convert string to float",
        ),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"nonsense": 1}}, "nonsense"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": "x"}}, "where: "),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 5.0}}, "where: "),
        ({"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 0}}, "where: "),
        ({"log_level": "loud"}, "no log level 'loud', valid: "),
        ({"log_level_replica": "warn"}, "no log level 'warn', did you mean \"warning\""),
        (
            {"torch_compile": True, "torch_compile_backend": "indcutor"},
            'torch_compile_backend: did you mean "inductor"',
        ),
        ({"torch_compile": True, "torch_compile_mode": "fast"}, "torch_compile_mode: valid: default"),
        ({"report_to": ["wandb", "nobody"]}, "where: "),
    ],
    ids=str,
)
def test_what_would_fail_in_training_fails_before(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compiled = "torch_compile" in setting  # of a fine-tuning only
        made = TrainingArguments("unused", **setting) if compiled else training_config("unused", setting)
        refuse_unusable(made, "where")
    assert len(str(caught.value)) < 400


def test_a_system_without_a_place_for_temporary_files_is_not_the_settings_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = training_config("unused", {})
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: tempfile.mkdtemp(dir="/nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(UserError, match=r"^no folder for temporary files can be made \(No such file.*set TMPDIR"):
        refuse_unusable(settings, "training")


def test_a_graph_that_changes_is_not_declared_static() -> None:
    with pytest.raises(UserError, match="training.ddp_static_graph: .* another for each variable; leave it out"):
        training_config("unused", {"ddp_static_graph": True})


def test_trying_settings_changes_nothing() -> None:
    config = training_config("unused", {"lr_scheduler_type": "cosine", "warmup_steps": 100, "max_steps": 5})
    before, state = dict(vars(config)), torch.get_rng_state()
    refuse_unusable(config, "where")
    assert {**vars(config)} == before and torch.equal(torch.get_rng_state(), state)


def test_right_settings_pass() -> None:
    require_settings(
        CausalDistillationConfig,
        {
            "learning_rate": 1,
            "max_steps": -1,
            "num_train_epochs": 0.1,
            "do_train": True,
            "do_eval": False,
            "push_to_hub": False,
            "fp16": False,
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
    left_out = {*changed, "do_train"}  # its default says what is not so
    settings = {name: value for name, value in defaults.items() if name in known and name not in left_out}
    assert len(settings) > 80
    require_settings(CausalDistillationConfig, settings, "training")


def test_activation_checkpointing_is_refused_with_what_it_fails_with() -> None:
    on: dict[str, Any] = {"activation_checkpointing": True}
    with pytest.raises(UserError, match="training.activation_checkpointing: needs a student with dropout"):
        training_config("unused", {**on, "dropout": False})
    for options in ({"use_reentrant": True}, '{"use_reentrant": true}'):
        reentrant = {**on, "activation_checkpointing_kwargs": options}
        with pytest.raises(UserError, match="training.activation_checkpointing_kwargs: use_reentrant goes with grad"):
            training_config("unused", reentrant)
        assert training_config("unused", {**reentrant, "gradient_shares": False}).activation_checkpointing
    assert training_config("unused", {**on, "activation_checkpointing_kwargs": {"use_reentrant": False}})
