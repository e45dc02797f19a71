"""Fine-tunes a model on every task with every seed, skipping what is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import Trainer

from iit_toolkit.config.loading import dump_config
from iit_toolkit.config.training_arguments import refuse_unusable
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.downstream.arguments import training_arguments
from iit_toolkit.downstream.classification import prepare_classification
from iit_toolkit.downstream.config import FinetuneConfig, TaskSettings, task_settings
from iit_toolkit.downstream.entities import prepare_entities
from iit_toolkit.downstream.examples import ANSWERS, load_examples
from iit_toolkit.downstream.folder import FinetuneFolder, summarise
from iit_toolkit.downstream.models import BaseModel, load_base, try_once, with_new_head
from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.downstream.question_answering import prepare_question_answering, require_windows
from iit_toolkit.downstream.scores import Scores
from iit_toolkit.downstream.tasks import TASKS
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.scratch import scratch_folder
from iit_toolkit.models.finite import largest_weight, refuse_non_finite_answers, refuse_non_finite_weights
from iit_toolkit.runs.cut_short import refuse_cut_short, told_if_worker_ended
from iit_toolkit.runs.finetuned import SUMMARY_SCHEMA
from iit_toolkit.runs.folder import write_atomically, write_json
from iit_toolkit.runs.memory import is_out_of_memory, told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import fingerprint, fingerprint_of_json, provenance
from iit_toolkit.runs.step_lines import say_steps

_TRIED = 32  # examples of a split
_REPEAT = "repeat the command, which skips what is done"


@dataclass(frozen=True)
class _Job:
    """One task, to be fine-tuned with several seeds."""

    name: str
    settings: TaskSettings
    examples: Mapping[str, Dataset]
    prepared: PreparedTask

    @cached_property
    def data(self) -> dict[str, Any]:
        """What every split is, for the results; a row is one input of the model."""
        rows = {self.settings.train_split: self.prepared.train}
        rows |= {split: evaluation.rows for split, evaluation in self.prepared.evaluations.items()}
        return {
            split: {
                "examples": len(self.examples[split]),
                "rows": len(one),
                "fingerprint": fingerprint(one["input_ids"]),
                "answers": fingerprint_of_json(self.examples[split][ANSWERS[TASKS[self.name].kind]][:]),
            }
            for split, one in rows.items()
        }


def finetune(config: FinetuneConfig, output: str | Path) -> Path:
    """Fine-tune a model on every task with every seed, and write the scores and their summary.

    A task and seed whose scores are there already is skipped. So a call that was killed can be repeated, and tasks
    and seeds can be added. Every fine-tuning starts from the model as it is on disk and depends on nothing but its
    settings and seed.

    Args:
        config: The model, the tasks, their settings and the seeds.
        output: The folder to write: new, empty, or that of an earlier call.

    Returns:
        `output`.

    Raises:
        UserError: If the model, a task's data or a setting is unusable, which is found before anything is trained. If
            the folder holds something else, or scores that were made with other settings.
    """
    folder = FinetuneFolder(Path(output))
    folder.refuse_foreign()
    with folder.alone():
        _finetune(config, folder)
    return Path(output)


def _finetune(config: FinetuneConfig, folder: FinetuneFolder) -> None:
    phase(f"loading model {config.model}")
    base, settings = _checked(config)
    missing = {name: _missing_seeds(config, folder, base, name, made) for name, made in settings.items()}
    examples = {name: _load(name, settings[name], base) for name, seeds in missing.items() if seeds}
    for name, splits in examples.items():
        _try(name, settings[name], splits, base)
    write_atomically(folder.config, dump_config(config))
    for name, splits in examples.items():
        phase(f"tokenizing {name}")
        job = _Job(name, settings[name], splits, _prepare(name, settings[name], splits, base))
        for seed in set(config.seeds) - set(missing[name]):
            folder.refuse_other_data(name, seed, job.data)
        for seed in missing[name]:
            _finetune_once(job, base, seed, folder, save_model=config.save_models)
    tasks: dict[str, Any] = {}
    for name, made in settings.items():
        runs = [folder.read_scores(name, seed, _identity(made, base)) for seed in config.seeds]
        tasks[name] = summarise([run for run in runs if run is not None])
    write_json(
        folder.summary,
        {
            "schema": SUMMARY_SCHEMA,
            "model": {"path": base.path, "weights": base.fingerprint, "parameters": base.parameters},
            "tasks": tasks,
            "provenance": provenance(),
        },
    )


def require_finetuning(config: FinetuneConfig) -> None:
    """Check all that `finetune` checks before it trains, without a folder.

    Raises:
        UserError: If the model, a task's data or a setting is unusable.
    """
    base, settings = _checked(config)
    for name, made in settings.items():
        _try(name, made, _load(name, made, base), base)


def _checked(config: FinetuneConfig) -> tuple[BaseModel, dict[str, TaskSettings]]:
    """Load the model, and fill in and check the settings of every task."""
    base = load_base(config.model)
    settings = {name: task_settings(config, name) for name in config.tasks}
    for name, made in settings.items():
        if made.max_length is not None and made.max_length > base.longest:
            raise UserError(
                f"tasks.{name}.max_length is {made.max_length}, but the model reads at most {base.longest} tokens"
            )
        where = f"tasks.{name}.training"
        refuse_unusable(training_arguments(made.training, seed=0, where=where, output="unused"), where)
    return base, settings


def _identity(settings: TaskSettings, base: BaseModel) -> dict[str, Any]:
    """Return what, with task and seed, determines scores: if it differs, so do they."""
    return {"weights": base.fingerprint, **asdict(settings)}


def _missing_seeds(
    config: FinetuneConfig, folder: FinetuneFolder, base: BaseModel, name: str, settings: TaskSettings
) -> list[int]:
    def is_done(seed: int) -> bool:
        found = folder.read_scores(name, seed, _identity(settings, base))
        return found is not None and (not config.save_models or folder.model(name, seed).is_dir())

    return [seed for seed in config.seeds if not is_done(seed)]


def _load(name: str, settings: TaskSettings, base: BaseModel) -> dict[str, Dataset]:
    phase(f"loading data of {name}")
    splits = load_examples(TASKS[name], settings)
    if settings.doc_stride is not None:
        for examples in splits.values():
            require_windows(examples, base.tokenizer, settings.max_length or base.longest, settings.doc_stride)
    return splits


def _try(name: str, settings: TaskSettings, splits: Mapping[str, Dataset], base: BaseModel) -> None:
    """Run the model once on a few rows of a task."""
    phase(f"trying the model on {name}")
    few = {split: examples.select(range(min(_TRIED, len(examples)))) for split, examples in splits.items()}
    try_once(base, _prepare(name, settings, few, base), f"tasks.{name}")


def _prepare(name: str, settings: TaskSettings, splits: Mapping[str, Dataset], base: BaseModel) -> PreparedTask:
    task, train = TASKS[name], splits[settings.train_split]
    evaluated = {split: splits[split] for split in settings.eval_splits}
    length = settings.max_length or base.longest
    if task.kind == "classification":
        return prepare_classification(task, train, evaluated, base.tokenizer, length)
    if task.kind == "entities":
        # words come one by one, without their spaces
        tokenizer = load_tokenizer(base.path, add_prefix_space=True, padding_side="right")
        return prepare_entities(train, evaluated, tokenizer, length)
    assert settings.doc_stride is not None
    return prepare_question_answering(train, evaluated, base.tokenizer, length, settings.doc_stride)


class _Trainer(Trainer):
    """Predicts rows in their own order, as scores expect them, however training draws its own.

    Losses are means over a micro-batch, so they are divided by the number of micro-batches to a step.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.model_accepts_loss_kwargs = False  # transformers assumes it of every model whose forward has **kwargs

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)


def _refuse_non_finite(predictions: Any, what: str) -> None:
    """Refuse answers that are NaN or infinite: they would be scored as class 0 or as the first token."""
    for logits in predictions if isinstance(predictions, tuple) else (predictions,):
        found = torch.as_tensor(logits)
        rows = torch.arange(len(found)).repeat_interleave(found[:1].numel() // found.shape[-1])
        refuse_non_finite_answers(found.flatten(0, -2), rows, what)


def _finetune_once(job: _Job, base: BaseModel, seed: int, folder: FinetuneFolder, *, save_model: bool) -> None:
    prepared, settings = job.prepared, job.settings
    model = with_new_head(base, prepared, seed)
    place = f"tasks.{job.name}"
    less = f"lower {place}.training.per_device_train_batch_size or per_device_eval_batch_size, or {place}.max_length"
    large = largest_weight(model)
    remedy = f"lower {place}.training.learning_rate" if large is None else f"its {large} before; give another model"
    with told_if_out_of_memory(place, less), scratch_folder() as scratch:
        trainer = _Trainer(
            model,
            training_arguments(settings.training, seed, f"tasks.{job.name}.training", scratch),
            data_collator=prepared.collator,
            train_dataset=prepared.train,
            processing_class=prepared.tokenizer,
            preprocess_logits_for_metrics=prepared.only_logits,
        )
        say_steps(trainer, f"{job.name} · seed {seed}")
        phase(f"training on {job.name} (seed {seed}): {len(prepared.train):,} rows")
        started, cpu = time.perf_counter(), time.process_time()
        try:
            with told_if_worker_ended(place, trainer.args.dataloader_num_workers, _REPEAT):
                trained = trainer.train()
        except Exception as error:
            if isinstance(error, UserError) or is_out_of_memory(error):
                raise
            raise UserError(
                f"{place}, seed {seed}: training stopped ({type(error).__name__}: {one_line(error)[:150]}); nothing of "
                f"it is kept; give another model, or change {place}.training"
            ) from error
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        refuse_cut_short(trainer.state, f"{place}, seed {seed}", _REPEAT)
        what = f"model {base.path}, fine-tuned on {job.name} with seed {seed}"
        refuse_non_finite_weights(model, what, remedy)
        try:
            scores = _score(trainer, prepared, what, f"scoring {job.name} (seed {seed})")
        except Exception as error:
            folder.save_model(job.name, seed, model, prepared.tokenizer)
            if is_out_of_memory(error):
                raise
            raise UserError(
                f"tasks.{job.name}, seed {seed}: the fine-tuned model could not be scored ({one_line(error)[:150]}); "
                f"it is kept in {folder.model(job.name, seed)}"
            ) from error
    headline = scores[settings.eval_splits[0]]
    metrics = TASKS[job.name].metrics
    folder.write_scores(
        job.name,
        seed,
        {
            "score": sum(headline[metric] for metric in metrics) / len(metrics),
            "scores": scores,
            "model": base.path,
            "settings": _identity(settings, base),
            "data": job.data,
            "training": {
                "steps": trained.global_step,
                "loss": trained.training_loss,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
            },
            "provenance": provenance(),
        },
    )
    if save_model:
        folder.save_model(job.name, seed, model, prepared.tokenizer)


def _score(trainer: _Trainer, prepared: PreparedTask, what: str, doing: str) -> dict[str, Scores]:
    scores: dict[str, Scores] = {}
    for split, evaluation in prepared.evaluations.items():
        phase(f"{doing} on {split}: {len(evaluation.rows):,} rows")
        answers = trainer.predict(evaluation.rows)  # pyright: ignore[reportArgumentType]
        _refuse_non_finite(answers.predictions, f"{what}, on {split}")
        scores[split] = evaluation.score(answers.predictions)
    return scores
