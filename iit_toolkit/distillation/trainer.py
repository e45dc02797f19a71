"""The trainer: `transformers.Trainer` whose loss is the causal distillation objective."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import has_length

from iit_toolkit.alignment import Alignment
from iit_toolkit.config.parallelism import refuse_other_kind, refuse_other_training
from iit_toolkit.config.task import refuse_unknown_task
from iit_toolkit.data.batch import Collator, Numbered, both_directions, require_labels
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.readable import readable
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.cost import StepCost, cheapest_draw
from iit_toolkit.distillation.from_settings import make_objective
from iit_toolkit.distillation.length_groups import SeededLengthGroups
from iit_toolkit.distillation.mixture import Mixed, MixedBatch, mixed_batch
from iit_toolkit.distillation.objective import Losses
from iit_toolkit.distillation.plain_student import PlainStudentTrainer
from iit_toolkit.distillation.processes import deal_in_rounds, prepare_group
from iit_toolkit.distillation.spoilt import NonFiniteLossError as NonFiniteLossError
from iit_toolkit.distillation.spoilt import refuse_spoilt_gradient, refuse_spoilt_losses, refuse_spoilt_weights
from iit_toolkit.distillation.step import DistillationStep, pass_over_unreached
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainable import refuse_untrainable
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, InterchangeModel, Sampler, refuse_empty
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.reading import refuse_read_padding
from iit_toolkit.interchange.sampling import SourceRows, Variables, step_generator

_GRADIENT_ROWS = 4
_Gradients = tuple[Tensor | None, ...]


class CausalDistillationTrainer(PlainStudentTrainer):
    """Trains a student to answer like its teacher, also when aligned neurons are swapped between inputs.

    The Trainer trains a `DistillationStep`. Its student stays a plain `PreTrainedModel`, here `student`: it is saved,
    loaded and used like any other. Without an alignment (or with no `causal_*` weight) this is plain distillation.

    Batches hold `input_ids` (B, S), `attention_mask`, `labels` and, for interchange, `special_tokens_mask` (B, S)
    true at special tokens and padding. The collators of `iit_toolkit.data` make such batches. For sources `fixed` they
    also hold `example_id` (B,), the rows' numbers in the training data.

    Args:
        model: The student.
        teacher: The teacher, set to eval mode and without gradients; or a program, if the task is classification.
        alignment: The alignment; needed by `causal_*` weights, `strict` and `aligned_mse`.
        args: The settings.
        mixture: Further data that every step reads beside its own batch.
        subspaces: Those of the alignment's learned sites, trained in place; by default, new ones. They are
            the trainer's `subspaces`.
        train_dataset: Rows of token ids, such as a `datasets.Dataset`.
        data_collator: Makes batches of rows; by default, the task's own with the tokenizer.
        processing_class: The teacher's tokenizer; saved with the student.
        **rest: What else `transformers.Trainer` takes.

    Raises:
        UserError: If weights ask for an alignment and there is none, or the alignment does not fit the models. If
            settings or environment ask for anything but one process or DDP. If a given optimizer would not train the
            projection between unequal widths, or learned subspaces. As for `refuse_untrainable`. In training, if
            batches lack `labels` or `special_tokens_mask`, a model cannot read a row or answers otherwise for its
            padding, or sources are `fixed` and rows have other numbers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel | CausalModel,
        alignment: Alignment | None,
        args: CausalDistillationConfig,
        mixture: Sequence[Mixed] = (),
        subspaces: LearnedSubspaces | None = None,
        *,
        train_dataset: Any = None,
        data_collator: Collator | None = None,
        processing_class: Any = None,
        **rest: Any,
    ) -> None:
        refuse_untrainable(model, teacher, alignment, args, train_dataset)
        if args.n_gpu > 1:
            raise UserError(
                f"{args.n_gpu} GPUs in one process are not used; start one process per GPU with torchrun or accelerate "
                "launch, or show it one with CUDA_VISIBLE_DEVICES"
            )
        refuse_other_training(args)
        refuse_unknown_task(args.task, "args.task")
        if isinstance(teacher, PreTrainedModel):
            teacher.requires_grad_(False).eval().to(args.device)  # pyright: ignore[reportArgumentType]
        set_seed(args.seed)
        self.objective = make_objective(model, teacher, alignment, args, subspaces)
        if args.freeze_student:
            model.requires_grad_(False)
        elif not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("all of the student is frozen, as a teacher is; call student.requires_grad_(True)")
        if data_collator is None and isinstance(processing_class, PreTrainedTokenizerBase):
            data_collator = collator_for(self.objective.task, processing_class, args.seed)
            if train_dataset is not None and has_length(train_dataset):
                Numbered(cast(Any, train_dataset))  # refuses what are no rows of tokens
        named = {"train_dataset": train_dataset, "data_collator": data_collator, "processing_class": processing_class}
        with torch.random.fork_rng(devices=[]):  # the Trainer seeds again
            super().__init__(model=DistillationStep(self.objective), args=args, **named, **rest)
        models = {"teacher": teacher, "student": model}
        self.data_collator = readable(self.data_collator, models)
        if args.label_names is None:
            self.label_names = ["labels"]
        refuse_other_kind(self.accelerator.distributed_type)
        prepare_group(args)
        self.loss_is_scaled_for_ga = False
        self.settings = args
        self.alignment = alignment
        self.mixture = tuple(replace(one, collator=readable(one.collator, models)) for one in mixture)
        for one in self.mixture:
            one.require_terms(self.objective.weights)
        self.student = model
        self.projection = self.objective.projection
        self.subspaces = self.objective.subspaces
        besides = {
            "the projection between the unequal widths of student and teacher": self.projection,
            "the learned subspaces": self.subspaces,
        }
        for what, companion in besides.items():
            if companion is not None and self.optimizer is not None:
                raise UserError(f"the given optimizer would not train {what}; name one in args.optim instead")
        self._swapped = self._looked = False
        self._sampler: Sampler | None = None
        self._drawn: Variables | None = None
        self._sums: dict[str, Tensor] = {}
        self._summed_steps = 0
        self._micro_step = self._mixed_step = (-1, 0)
        self._rounds = None
        self._weights: list[float] = []
        self._last_line = (0, 0.0)
        self._diagnosed = 0.0
        self._shares: dict[str, float] = {}
        self._effect_size = 0.0

    def train(self, *arguments: Any, **named: Any) -> Any:
        """Train, and remove what mixed precision put around the step's forward function."""
        self._last_line, self._sampler = (-1, 0.0), None
        try:
            result = super().train(*arguments, **named)
        finally:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self._set_progress(None)
        refuse_spoilt_weights(self.objective, self.state.global_step)
        self.count_steps()
        return result

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the objective of a batch; in evaluation, the student's own task loss."""
        del num_items_in_batch  # every term is a mean over the micro-batch
        if model.training and self.settings.both_directions:
            inputs = both_directions(inputs)
        with self.accelerator.autocast():  # for the teacher too
            if not model.training:
                loss = self.objective.task_loss(inputs)
                return (loss, {"loss": loss}) if return_outputs else loss
            self._look_at_first(inputs)
            interchanges = self.draw_interchanges(inputs)
            dropout = self.settings.dropout and not self.settings.freeze_student
            if any(module.training != dropout for module in self.student.modules()):
                self.student.train(dropout)
            self._set_progress(self.state.global_step / max(1, self.state.max_steps))
            losses = Losses(*model(inputs, interchanges, self.draw_mixture()))
            refuse_spoilt_losses(self.objective, losses, inputs, self.state.global_step)
            self._gather(losses, inputs, interchanges)
        weight = self._weights.pop(0) if self._weights else 1.0
        loss = losses.total if weight == 1 else losses.total * weight
        return (loss, {"loss": loss}) if return_outputs else loss

    def _look_at_first(self, batch: Mapping[str, Tensor]) -> None:
        """Look at the first batch: it needs labels, and answers must not change with its padding."""
        if self._looked:
            return
        self._looked = True
        require_labels(batch)
        for side in (self.objective.teacher, self.objective.student):
            if isinstance(side, InterchangeModel):
                refuse_read_padding(side.model, batch, "teacher" if side is self.objective.teacher else "student")

    def _set_progress(self, done: float | None) -> None:
        if self.subspaces is not None:
            self.subspaces.set_progress(done)

    def draw_interchanges(self, batch: Mapping[str, Tensor]) -> list[Interchange]:
        """Draw the variables, the sources and the positions of a batch; none if no term needs them.

        The draw depends only on the seed, the step, the micro-step and the process, so a resumed run draws the same.
        """
        if not self.objective.weights.interchange:
            return []
        assert self.alignment is not None
        self._micro_step = self._next_micro_step(self._micro_step)
        generator = step_generator(self.args.seed, *self._micro_step, self.args.process_index)
        if self.alignment.sources.kind == "in_batch":
            if self.args.train_batch_size < 2:
                raise UserError("in-batch sources need batches of at least 2 rows; raise per_device_train_batch_size")
            if has_length(self.train_dataset) and len(cast(Any, self.train_dataset)) < 2:
                raise UserError("in-batch sources are other rows, but train_dataset has only one; give more")
        if self._sampler is None:
            rows = None
            if self.alignment.sources.kind in ("dataset", "fixed"):
                dataset: Any = self.train_dataset
                rows = SourceRows(len(dataset), self._rows_of, self.args.seed)
            self._sampler = Sampler(self.alignment.positions, self.alignment.sources, self.objective.task, rows)
        drawn = self._sampler.interchanges(batch, self._draw(), self.settings.interchanges, generator)
        if drawn and not self._swapped:  # later on, a batch that cannot be swapped is one among many
            refuse_empty(drawn[0].swap, self.alignment.positions)
            self._swapped = True
        return [replace(one, swap=one.swap.to(self.args.device)) for one in drawn]

    def draw_mixture(self) -> list[MixedBatch]:
        """Draw a batch of each further data set, with its interventions; as for `draw_interchanges`."""
        self._mixed_step = self._next_micro_step(self._mixed_step)
        variables = self._draw() if self.objective.weights.interchange else None
        batches: list[MixedBatch] = []
        for mixed in self.mixture:
            batch, generator = mixed.draw(self.args.seed, *self._mixed_step, self.args.process_index)
            require_labels(batch)
            drawn = self._prepare_inputs(dict(batch)), generator
            batches.append(mixed_batch(mixed, drawn, self.objective.task, variables, self.settings.interchanges))
        return batches

    def _next_micro_step(self, last: tuple[int, int]) -> tuple[int, int]:
        step, micro = last
        return (self.state.global_step, micro + 1 if step == self.state.global_step else 0)

    def _rows_of(self, numbers: Sequence[int]) -> Mapping[str, Tensor]:
        """Make a batch of rows of the training data."""
        dataset: Any = self.train_dataset
        return self._prepare_inputs(self.data_collator([dataset[number] for number in numbers]))

    def _draw(self) -> Variables:
        """Return how variables are drawn.

        The first rows of the data decide the costs, so every process and a resumed run agree.
        """
        if self._drawn is None:
            assert self.alignment is not None
            declared = torch.tensor(self.alignment.probabilities, dtype=torch.float64)
            drawn = declared
            if self.settings.cost_aware_draw:
                dataset: Any = self.train_dataset
                first = self._rows_of(range(min(self.args.train_batch_size, len(dataset))))
                first = both_directions(first) if self.settings.both_directions else first
                drawn = cheapest_draw(declared, StepCost(self.objective, first), self.alignment, self.settings)
            names = [variable.name for variable in self.alignment.variables]
            self._drawn = Variables(names, drawn, torch.where(drawn > 0, declared / drawn, 0.0))
        return self._drawn

    def _gather(self, losses: Losses, inputs: Mapping[str, Tensor], interchanges: list[Interchange]) -> None:
        """Sum up the terms for the next log line; measure shares and effect size once per line."""
        for name, value in losses.terms.items():
            self._sums[f"loss/{name}"] = self._sums.get(f"loss/{name}", torch.zeros_like(value)) + value
        if self._summed_steps == 0:
            started = time.perf_counter()
            if self._last_line[0] < 0:  # the first step of this training
                self._last_line = (self.state.global_step, started)
            if self.settings.gradient_shares and len(losses.terms) > 1 and not self.settings.freeze_student:
                self._shares = self.gradient_shares(inputs)
            if interchanges:
                self._effect_size = float(self.objective.effect_size(inputs, interchanges[0]))
            self._diagnosed = time.perf_counter() - started
        self._summed_steps += 1

    def gradient_shares(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Return each weighted term's gradient norm over the sum of these norms, on the first rows of a batch.

        The result is empty if there are causal terms and these rows alone cannot be swapped.
        """
        few = {name: value[:_GRADIENT_ROWS] for name, value in batch.items()}
        weights = self.objective.weights.model_dump(exclude={"whole", "boundary"})  # they do not reach the student
        kept = self._micro_step
        try:
            interchanges = self.draw_interchanges(few)
        finally:
            self._micro_step = kept
        if interchanges and not all(bool(one.swap.mask.any()) for one in interchanges):
            return {}
        parameters = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        norms: dict[str, float] = {}
        with torch.random.fork_rng(devices=_cuda_devices(self.args.device)):
            for name, weight in weights.items():
                if weight:
                    loss = self.objective(few, interchanges, ObjectiveWeights(**{name: weight})).total
                    gradients = cast(_Gradients, torch.autograd.grad(loss, parameters, allow_unused=True))
                    squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
                    norms[name] = float(torch.stack(squares).sum().sqrt())
        total = sum(norms.values()) or 1.0
        return {f"gradient_share/{name}": norm / total for name, norm in norms.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each term's mean since the last line, its gradient share, the swap's effect size, and a step's time."""
        if "loss" in logs and self._summed_steps:
            (step, before), now = self._last_line, time.perf_counter()
            if self.state.global_step > step:
                spent = now - before - self._diagnosed - self.seconds_of_saving()
                logs["step_seconds"] = spent / (self.state.global_step - step)
            self._last_line = (self.state.global_step, now)
            logs |= {name: float(total) / self._summed_steps for name, total in self._sums.items()}
            logs |= self._shares
            if self.objective.weights.interchange:
                logs["effect_size"] = self._effect_size
            self._sums, self._summed_steps = {}, 0
        super().log(logs, start_time)

    def prediction_step(self, model: nn.Module, inputs: Any, *arguments: Any, **named: Any) -> Any:
        """Evaluate a batch by the student's own task loss.

        Raises:
            UserError: If the batch has no labels.
        """
        if "labels" not in inputs:
            raise UserError("evaluation needs batches with labels; for answers alone, call trainer.student")
        return super().prediction_step(model, inputs, *arguments, **named)

    def _get_train_sampler(self, *arguments: Any, **named: Any) -> Any:
        sampler = super()._get_train_sampler(*arguments, **named)
        if isinstance(sampler, LengthGroupedSampler):
            return SeededLengthGroups(sampler, self.args.seed, lambda: int(self.state.epoch or 0))
        return sampler

    def get_train_dataloader(self) -> Any:
        """Return the loader of the training data; with several processes, it deals out each row once an epoch."""
        loader = super().get_train_dataloader()
        self._rounds = deal_in_rounds(loader)
        return loader

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """Return the batches of an update, and set the weights of their losses."""
        batches, count = super().get_batch_samples(*arguments, **named)
        last = self.accelerator.gradient_state.end_of_dataloader
        self._weights = [] if self._rounds is None else self._rounds.weights(len(batches), last=last)
        return batches, count

    def create_optimizer(self, *arguments: Any, **named: Any) -> Any:
        """Create the optimizer; learned subspaces have a learning rate of their own."""
        created: Any = super().create_optimizer(*arguments, **named)
        if self.subspaces is not None:
            learned = {id(one) for one in self.subspaces.parameters()}
            if not any(group.get("learned") for group in created.param_groups):
                for group in created.param_groups:
                    group["params"] = [one for one in group["params"] if id(one) not in learned]
                rate = self.settings.subspace_learning_rate
                own = {"params": list(self.subspaces.parameters()), "lr": rate, "weight_decay": 0.0, "learned": True}
                created.add_param_group(own)
                created.register_step_pre_hook(pass_over_unreached)
        return created

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the names of the weights that decay; those of companions do not."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.startswith("companions.")]

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        norm = cast(Any, super()._get_grad_norm(*arguments, **named))  # only DeepSpeed gives None, and it is refused
        if self.accelerator.scaler is None:  # a scaler skips such steps, and makes the next ones smaller
            refuse_spoilt_gradient(norm, self.state.global_step)
        return norm

    def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
        refuse_spoilt_weights(self.objective, self.state.global_step)
        super()._save_checkpoint(*arguments, **named)


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
