"""Fine-tunes a model on every task with every seed, skipping what is done."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from iit_toolkit.downstream.classification import prepare_classification
from iit_toolkit.downstream.config import FinetuneConfig, TaskSettings, dump_finetune_config, task_settings
from iit_toolkit.downstream.entities import prepare_entities
from iit_toolkit.downstream.examples import load_examples
from iit_toolkit.downstream.folder import SUMMARY_SCHEMA, FinetuneFolder, summarise
from iit_toolkit.downstream.models import BaseModel, load_base, with_new_head
from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.downstream.question_answering import prepare_question_answering
from iit_toolkit.downstream.scores import Scores
from iit_toolkit.downstream.tasks import TASKS
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.runs.folder import write_atomically, write_json
from iit_toolkit.runs.provenance import fingerprint, provenance

_SET_ELSEWHERE = ("output_dir", "seed")


def finetune(config: FinetuneConfig, output: str | Path) -> Path:
    """Fine-tunes a model on every task with every seed, and writes the scores and their summary.

    A task and seed whose scores are there already is skipped, so a call that was killed can be repeated, and tasks
    and seeds can be added. Every fine-tuning starts from the model as it is on disk and depends on nothing but its
    settings and seed.

    Args:
        config: The model, the tasks, their settings and the seeds.
        output: The folder to write: new, empty, or that of an earlier call.

    Returns:
        `output`.

    Raises:
        UserError: If the model, a task's data or a setting is unusable, which is found before anything is trained, or
            the folder holds something else, or scores that were made with other settings.
    """
    folder = FinetuneFolder(Path(output))
    folder.refuse_foreign()
    base = load_base(config.model)
    settings = {name: _fitting(name, task_settings(config, name), base) for name in config.tasks}
    missing = {name: _missing_seeds(config, folder, base, name, made) for name, made in settings.items()}
    for name, made in settings.items():
        _arguments(made, seed=0, where=f"tasks.{name}.training", output="unused")
    examples = {name: load_examples(TASKS[name], settings[name]) for name, seeds in missing.items() if seeds}
    write_atomically(folder.config, dump_finetune_config(config))
    for name, splits in examples.items():
        prepared = _prepare(name, settings[name], splits, base)
        for seed in missing[name]:
            _finetune_once(config, folder, base, name, settings[name], prepared, seed)
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
    return Path(output)


def _identity(settings: TaskSettings, base: BaseModel) -> dict[str, Any]:
    """What, with task and seed, determines scores: where it differs, they are others."""
    return {"weights": base.fingerprint, **asdict(settings)}


def _missing_seeds(
    config: FinetuneConfig, folder: FinetuneFolder, base: BaseModel, name: str, settings: TaskSettings
) -> list[int]:
    def is_done(seed: int) -> bool:
        found = folder.read_scores(name, seed, _identity(settings, base))
        return found is not None and (not config.save_models or folder.model(name, seed).is_dir())

    return [seed for seed in config.seeds if not is_done(seed)]


def _fitting(name: str, settings: TaskSettings, base: BaseModel) -> TaskSettings:
    if settings.max_length is not None and settings.max_length > base.longest:
        raise UserError(
            f"tasks.{name}.max_length is {settings.max_length}, but the model reads at most {base.longest} tokens"
        )
    return settings


def _arguments(settings: TaskSettings, seed: int, where: str, output: str) -> TrainingArguments:
    known = [entry.name for entry in fields(TrainingArguments) if entry.init]
    for key in settings.training:
        if key in _SET_ELSEWHERE:
            raise UserError(f"{where}.{key}: this is set by the config's seeds and output; leave it out")
        if key not in known:
            raise UserError(f"{where}.{key}: unknown setting, {did_you_mean(key, known)}")
    accelerated = torch.accelerator.is_available()
    machine = {
        "dataloader_pin_memory": accelerated,
        "use_cpu": not accelerated,
        "disable_tqdm": not sys.stderr.isatty(),
    }
    defaults: dict[str, Any] = {**machine, "save_strategy": "no", "report_to": "none", "per_device_eval_batch_size": 64}
    try:
        arguments = TrainingArguments(output, seed=seed, **(defaults | settings.training))
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None
    if arguments.world_size * max(arguments.n_gpu, 1) > 1:
        raise UserError(
            "fine-tuning uses one process and one GPU, so that batches are as large as they say: start it without "
            "torchrun, show it one GPU with CUDA_VISIBLE_DEVICES, and give other seeds or tasks to the others"
        )
    return arguments


def _prepare(name: str, settings: TaskSettings, splits: Mapping[str, Dataset], base: BaseModel) -> PreparedTask:
    task, train = TASKS[name], splits[settings.train_split]
    evaluated = {split: splits[split] for split in settings.eval_splits}
    length = settings.max_length or base.longest
    if task.kind == "classification":
        return prepare_classification(task, train, evaluated, base.tokenizer, length)
    if task.kind == "entities":
        return prepare_entities(train, evaluated, base.tokenizer, length)
    assert settings.doc_stride is not None
    return prepare_question_answering(train, evaluated, base.tokenizer, length, settings.doc_stride)


def _finetune_once(
    config: FinetuneConfig,
    folder: FinetuneFolder,
    base: BaseModel,
    name: str,
    settings: TaskSettings,
    prepared: PreparedTask,
    seed: int,
) -> None:
    model = with_new_head(base, prepared, seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model,
            _arguments(settings, seed, f"tasks.{name}.training", scratch),
            data_collator=prepared.collator,
            train_dataset=prepared.train,
            processing_class=base.tokenizer,
        )
        started, cpu = time.perf_counter(), time.process_time()
        trained = trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        scores: dict[str, Scores] = {}
        for split, evaluation in prepared.evaluations.items():
            answers = trainer.predict(evaluation.rows)  # pyright: ignore[reportArgumentType]
            scores[split] = evaluation.score(answers.predictions)
    if config.save_models:
        folder.save_model(name, seed, model, base.tokenizer)
    headline = scores[settings.eval_splits[0]]
    metrics = TASKS[name].metrics
    rows = {settings.train_split: prepared.train, **{s: e.rows for s, e in prepared.evaluations.items()}}
    folder.write_scores(
        name,
        seed,
        {
            "score": sum(headline[metric] for metric in metrics) / len(metrics),
            "scores": scores,
            "model": base.path,
            "settings": _identity(settings, base),
            "data": {split: {"rows": len(r), "fingerprint": fingerprint(r["input_ids"])} for split, r in rows.items()},
            "training": {
                "steps": trained.global_step,
                "loss": trained.training_loss,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
            },
            "provenance": provenance(),
        },
    )
