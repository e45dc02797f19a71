"""Settings of a causal distillation: those of `transformers`, with the paper's defaults, and a few of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from iit_toolkit.config.parallelism import refuse_compiled, refuse_environment
from iit_toolkit.config.task import Task
from iit_toolkit.config.training_arguments import refuse_half_on_cpu, require_settings
from iit_toolkit.distillation.objective import BaseTokens, CounterfactualTokens, Weighting
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.launch import forget_a_launcher_of_one


@dataclass
class CausalDistillationConfig(TrainingArguments):
    """Settings of `CausalDistillationTrainer`.

    Everything of `transformers.TrainingArguments`; defaults that differ are those of the official code of
    arXiv 2112.02505 (AdamW 5e-4, betas .9/.98, epsilon 1e-6, no weight decay, 5% warm-up, clipping at 5).

    Attributes:
        ddp_timeout: Seconds after which a process that does not answer the others ends them all.
        task: What `labels` mean; by default, what the student's class says.
        weights: Weight of each loss term; the paper's causal objective (.25 each) if empty.
        temperature: Temperature of the distillation losses.
        share_prefix: Whether counterfactual runs restart from the base run, sharing its dropout masks below the
            swap; `False` computes them from the input, with masks of their own, as the official code does.
        loss_dtype: Precision of the vocabulary's matrix products; the softmax is always in float32 or better.
        teacher_dtype: Precision of the teacher's matrix products; `bfloat16` uses autocast, as `bf16` does for both.
        base_tokens: Tokens that distillation terms compare in base runs: `all` but padding (the paper's), or only the
            `labelled` ones, which is cheaper but another objective.
        counterfactual_tokens: The same for counterfactual runs; or only the `swapped` positions.
        aligned_tokens: The same for `aligned_mse`, whose tokens cost nothing; None: those of `base_tokens`.
        counterfactual_weighting: How much each token counts in `causal_ce`: `equal`, or by the `effect`, the total
            variation by which the swap shifts the teacher's answer there.
        interchanges: Counterfactual runs per base run, each with a variable, sources and positions of its own.
        both_directions: Swap both ways in every pair: its source is a base, too, and the base is its source. A step
            has twice as many rows then, and no runs of sources besides.
        subspace_learning_rate: Learning rate of learned subspaces, at its peak.
        freeze_student: Whether the student stays as it is, and the learned subspaces of its sites are trained alone, by
            the `causal_*` terms.
        dropout: Whether the student's dropout acts in training. Without it, swapped activations are free of its noise.
        cost_aware_draw: Draw variables with cheap counterfactual runs more often, and weight each so that the expected
            loss stays the same.
        gradient_shares: Whether to log each term's share of the gradient norm, measured at every logging step on
            four rows of the batch.
    """

    learning_rate: float = 5e-4
    adam_beta2: float = 0.98
    adam_epsilon: float = 1e-6
    warmup_steps: float = 0.05
    max_grad_norm: float = 5.0
    remove_unused_columns: bool = False
    save_strategy: str = "no"
    logging_steps: float = 20
    ddp_timeout: int = 600

    task: Task | None = None
    weights: dict[str, float] = field(default_factory=dict[str, float])
    temperature: float = 2.0
    share_prefix: bool = True
    loss_dtype: Literal["float32", "bfloat16"] = "float32"
    teacher_dtype: Literal["float32", "bfloat16"] = "float32"
    base_tokens: BaseTokens = "all"
    counterfactual_tokens: CounterfactualTokens = "all"
    aligned_tokens: BaseTokens | None = None
    counterfactual_weighting: Weighting = "equal"
    interchanges: int = 1
    both_directions: bool = False
    subspace_learning_rate: float = 0.02
    freeze_student: bool = False
    dropout: bool = True
    cost_aware_draw: bool = False
    gradient_shares: bool = True

    def __post_init__(self) -> None:
        """Check what the base class does not know.

        Raises:
            UserError: If a setting has a value of another type, or is too small or too large.
        """
        known = {entry.name for entry in fields(TrainingArguments)} | {"task"}  # the trainer checks the task
        own = (entry.name for entry in fields(self) if entry.name not in known)
        require_settings(CausalDistillationConfig, {name: getattr(self, name) for name in own}, "args")
        if not 1e-3 <= self.temperature <= 1e3:
            raise UserError(f"args.temperature: should be from 0.001 to 1000, not {self.temperature}")
        super().__post_init__()

    @property
    def objective_weights(self) -> ObjectiveWeights:
        """The validated weights.

        Raises:
            UserError: As for `ObjectiveWeights.from_dict`.
        """
        return ObjectiveWeights.from_dict(self.weights, "weights") if self.weights else ObjectiveWeights.causal()


_REFUSED = {
    "save_only_model": "a training that was stopped could not go on as it was",
    "ignore_data_skip": "a training that was stopped would go on with rows that it has seen",
    "ddp_static_graph": "a causal step's graph is another for each variable",
    "use_liger_kernel": "its kernels take the place of what a step computes itself",
    "label_smoothing_factor": "none of the loss terms smooths labels",
}


def training_config(output_dir: str, settings: dict[str, Any]) -> CausalDistillationConfig:
    """Build the settings from plain data, e.g. a run config's `training` section.

    Raises:
        UserError: If a setting is unknown or unusable.
    """
    require_settings(CausalDistillationConfig, settings, "training")
    refuse_half_on_cpu(settings, "training")
    refuse_compiled(settings, "training")
    refuse_environment(settings)
    forget_a_launcher_of_one()
    _refuse_other_backend(settings)
    for name, reason in _REFUSED.items():
        if settings.get(name):
            raise UserError(f"training.{name}: {reason}; leave it out")
    accelerated = torch.accelerator.is_available()
    machine: dict[str, Any] = {"dataloader_pin_memory": accelerated, "use_cpu": not accelerated}
    try:
        config = CausalDistillationConfig(output_dir=output_dir, **(machine | settings))
    except Exception as error:  # any kind: it is about the settings
        raise UserError(f"training: {one_line(error) or type(error).__name__}") from None
    if config.gradient_checkpointing:
        _require_checkpointing(config, "activation" if "activation_checkpointing" in settings else "gradient")
    return config


_READ_WITH_SWAPS = ("interchanges", "counterfactual_tokens", "share_prefix", "cost_aware_draw")
_READ_BY = {"counterfactual_weighting": "causal_ce", "aligned_tokens": "aligned_mse"}


def refuse_unread(settings: Mapping[str, Any], weights: ObjectiveWeights, where: str) -> None:
    """Refuse settings of an arm that none of its terms reads: they would change nothing.

    Args:
        settings: The arm's own settings.
        weights: The arm's weights.
        where: What messages call the settings.

    Raises:
        UserError: At the first of them.
    """
    lacking = {name: "swaps, but no causal_* term or strict" for name in _READ_WITH_SWAPS if not weights.interchange}
    lacking |= {name: f"{term}, but no such term" for name, term in _READ_BY.items() if not getattr(weights, term)}
    for entry in fields(CausalDistillationConfig):
        if entry.name in lacking and settings.get(entry.name, entry.default) != entry.default:
            raise UserError(f"{where}.{entry.name}: it is about {lacking[entry.name]} has a weight; leave it out")


def _refuse_other_backend(settings: Mapping[str, Any]) -> None:
    """Refuse a `ddp_backend` other than the one that joins processes before their config is read."""
    device = torch.accelerator.current_accelerator(check_available=True)
    trained_on = torch.device("cpu") if device is None or settings.get("use_cpu") else device
    used = torch.distributed.get_default_backend_for_device(trained_on)
    if (given := settings.get("ddp_backend") or used) != used:
        raise UserError(f"training.ddp_backend: processes are joined by {used} here, not {given:.40}; leave it out")


def _require_checkpointing(config: CausalDistillationConfig, called: str) -> None:
    """Refuse settings that do not go with `activation_checkpointing`, also called `gradient_checkpointing`."""
    setting = f"training.{called}_checkpointing"
    if not config.dropout:
        raise UserError(f"{setting}: needs a student with dropout; leave one of the two as it is")
    options: Any = config.gradient_checkpointing_kwargs
    if config.gradient_shares and options and options.get("use_reentrant"):
        raise UserError(f"{setting}_kwargs: use_reentrant goes with gradient_shares: false only; leave one of them out")
