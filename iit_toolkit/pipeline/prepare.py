"""From a run config to live models, rows of tokens, and alignments."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from iit_toolkit.alignment import Alignment, alignment_from_file, preset, resolve
from iit_toolkit.alignment.positions import Positions
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.config.data_config import DataConfig, MixedConfig
from iit_toolkit.config.loading import EMBEDDED_TEACHER
from iit_toolkit.config.recipes import RECIPES, Recipe
from iit_toolkit.config.run_config import RunConfig, StudentConfig
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.config.training_arguments import require_settings
from iit_toolkit.data.batch import Collator
from iit_toolkit.data.collate import MaskedLanguageCollator, collator_for
from iit_toolkit.data.encoding import ids_spanned
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.data.tables import id_columns, lists_of, numbers_of
from iit_toolkit.data.tokenization import (
    count_tokens,
    shuffled,
    spread_examples,
)
from iit_toolkit.distillation.config import CausalDistillationConfig, refuse_unread, training_config
from iit_toolkit.distillation.dropped import refuse_dropped_blocks
from iit_toolkit.distillation.fresh_blocks import draw_blocks_anew, drawn_anew
from iit_toolkit.distillation.mixture import Mixed
from iit_toolkit.distillation.students import refuse_unknown_size, student_from_checkpoint, student_from_config
from iit_toolkit.distillation.students import student as student_of_layers
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.sound import digests, refuse_changed
from iit_toolkit.models.finite import refuse_non_finite_weights
from iit_toolkit.models.loading import load_config, load_model, refuse_other_problem
from iit_toolkit.models.task import refuse_other_classifier
from iit_toolkit.pipeline.rows import load_rows
from iit_toolkit.runs.provenance import fingerprint_of_lists, fingerprint_of_weights

_MODEL_REMEDY = "give a folder written by save_pretrained, with its tokenizer, or a Hub id"

_CLASSES = {
    "masked_lm": AutoModelForMaskedLM,
    "causal_lm": AutoModelForCausalLM,
    "sequence_classification": AutoModelForSequenceClassification,
    "token_classification": AutoModelForTokenClassification,
}


@dataclass(frozen=True)
class Prepared:
    """What a run config names, loaded when first asked for."""

    config: RunConfig
    skipped: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]], init=False)
    """How many pairs of a split of the config's `data` cannot be used, by reason; filled as they are loaded."""
    _as_loaded: dict[str, str] = field(default_factory=dict[str, str], init=False)

    @cached_property
    def teacher_path(self) -> str:
        """Path or Hub id of the teacher."""
        if self.config.teacher == "embedded":
            return EMBEDDED_TEACHER
        return self.config.teacher

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The teacher in float32, eval mode and without gradients."""
        config = self.config
        refuse_other_classifier(
            load_config(self.teacher_path, "teacher", _MODEL_REMEDY), config.task, f"teacher {config.teacher}"
        )
        found = load_model(_CLASSES[config.task], self.teacher_path, "teacher", remedy=_MODEL_REMEDY)
        name, model = config.teacher, found.model
        found.refuse_lacking(f"teacher {name}", f"task {config.task}")
        found.tell_unused(f"teacher {name}")
        if FACTS[config.task].classes:
            refuse_other_problem(model.config, f"teacher {name}")
        refuse_unknown_size(model, f"teacher {name}")
        self._as_loaded.update(digests(model))
        return model.requires_grad_(False)

    def refuse_changed_teacher(self) -> None:
        """Check that the teacher is still the one that was loaded.

        Raises:
            UserError: If a weight has changed.
        """
        refuse_changed(self.teacher, self._as_loaded, f"teacher {self.config.teacher}")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer, which is the student's too."""
        name, path = self.config.teacher, self.teacher_path
        try:
            tokenizer = load_tokenizer(path, **tokenizer_settings(self.config.task))
        except UserError as error:
            raise UserError(f"teacher {name}: {error}") from None
        known = int(self.teacher.get_input_embeddings().weight.shape[0])  # pyright: ignore
        if ids_spanned(tokenizer) > known:
            raise UserError(
                f"teacher {name}: its tokenizer has ids up to {ids_spanned(tokenizer) - 1}, but its embeddings only "
                f"{known} rows; give the model's own tokenizer"
            )
        return tokenizer

    @cached_property
    def train_rows(self) -> Dataset:
        """Rows of token ids for training."""
        data = self.config.data
        return self.rows(data, data.train_split, data.max_train_tokens, data.max_train_examples)

    @cached_property
    def mixed_rows(self) -> dict[str, Dataset]:
        """Rows of the further training data, by name."""
        mixture = self.config.mixture.items()
        return {
            name: self.rows(data, data.train_split, data.max_train_tokens, data.max_train_examples)
            for name, data in mixture
        }

    def mixture(self, arm: str) -> list[Mixed]:
        """Return the further data that an arm's steps read.

        Raises:
            UserError: If positions are no policy, or are given for pairs that cannot be swapped there.
        """
        size = self.arm_training(arm, Path("unused")).train_batch_size
        return [
            Mixed(name, rows, self.collator, data.batch_size or size, data.weight, _positions(data, name))  # pyright: ignore[reportArgumentType]
            for (name, data), rows in zip(self.config.mixture.items(), self.mixed_rows.values(), strict=True)
        ]

    @cached_property
    def eval_rows(self) -> Dataset:
        """Held-out rows of token ids."""
        return self.held_out(self.config.data)

    @cached_property
    def evaluation_rows(self) -> dict[str, Dataset]:
        """Rows of token ids on which models are measured whole: the config's `evaluation`.

        In classification the held-out rows of `data` come first.
        """
        own = {self.config.data.eval_split: self.eval_rows} if FACTS[self.config.task].classes else {}
        return own | {name: self.held_out(data) for name, data in self.config.evaluation.items()}

    def held_out(self, data: DataConfig) -> Dataset:
        """Return the evaluation split of a data set as rows of token ids."""
        rows = self.rows(data, data.eval_split, None)
        return spread_examples(shuffled(rows) if data.shuffle_eval else rows, data.max_eval_examples)

    def rows(self, data: DataConfig, split: str, max_tokens: int | None, max_examples: int | None = None) -> Dataset:
        """Load one split of a data set and cut it into rows of token ids."""
        tokenizer = self.tokenizer  # a teacher that cannot be used is refused before any data is loaded
        loaded = load_rows(self.teacher, tokenizer, self.config.task, data, split, max_tokens, max_examples)
        if data is self.config.data and loaded.skipped is not None:
            self.skipped[split] = loaded.skipped
        return loaded.rows

    @cached_property
    def collator(self) -> Collator:
        """Make batches of rows, with masks that depend on the seed and the batch only."""
        if self.config.task != "masked_lm":
            return collator_for(self.config.task, self.tokenizer)
        mlm = self.config.mlm
        counts = None if mlm.smoothing is None else count_tokens(self.train_rows, ids_spanned(self.tokenizer))
        return MaskedLanguageCollator(self.tokenizer, mlm.probability, mlm.smoothing, counts, self.config.seed)

    def new_student(self, student: StudentConfig | None = None) -> PreTrainedModel:
        """Make a student as it is before training, the config's own if no other is given; the same at every call.

        Raises:
            UserError: If it cannot be made, its weights are not finite, or the teacher is not as it was loaded.
        """
        student = student or self.config.student
        self.refuse_changed_teacher()
        set_seed(self.config.seed)
        made = self._made_student(student)
        refuse_non_finite_weights(made, "student", "correct its config, such as initializer_range")
        return made

    def _made_student(self, student: StudentConfig) -> PreTrainedModel:
        if student.checkpoint is not None:
            return student_from_checkpoint(self.teacher, student.checkpoint, new_head=True)
        if student.config is not None:
            return student_from_config(self.teacher, student.config)
        made = student_of_layers(self.teacher, student.layers)
        return draw_blocks_anew(made) if student.fresh_blocks else made

    def alignment(self, given: str | dict[str, Any], student: PreTrainedModel, where: str = "alignment") -> Alignment:
        """Return the alignment that a config gives as preset, file (YAML or `.nm`) or data; `where` names the place."""
        if isinstance(given, dict):
            return Alignment.from_dict(given, where)
        depths = (self.teacher.config.num_hidden_layers, student.config.num_hidden_layers)
        return alignment_from_file(given) or preset(given, *depths)

    def arm_alignment(self, arm: str, student: PreTrainedModel) -> Alignment | None:
        """Return an arm's alignment, or none.

        Raises:
            UserError: If it is not an alignment, needs sources that the batches cannot have, or has sites in blocks
                that the student leaves out. If its sites are learned, and no term trains them. If the arm is frozen,
                and no site is learned.
        """
        given = self.config.arms[arm].alignment
        training = self.arm_training(arm, Path("unused"))
        alignment = None if given is None else self.alignment(given, student, f"arms.{arm}.alignment")
        if training.freeze_student and (alignment is None or not alignment.learns):
            raise UserError(
                f"arms.{arm}: training.freeze_student trains learned subspaces alone, but there are none; give it an "
                "alignment with a `subspace`"
            )
        if alignment is None:
            return None
        refuse_dropped_blocks(student.config, f"arms.{arm}")
        training.objective_weights.require_learnable(f"arms.{arm}.weights", alignment, frozen=training.freeze_student)
        alone = training.train_batch_size < 2 and alignment.sources.kind == "in_batch"
        if alone and training.objective_weights.interchange:
            raise UserError(
                f"arms.{arm}: in-batch sources need batches of at least 2 rows; raise "
                "training.per_device_train_batch_size, or give its alignment `sources: {kind: dataset}`"
            )
        return alignment

    def arm_weights(self, arm: str) -> ObjectiveWeights:
        """Return an arm's weights: its own, its recipe's, or the paper's (standard, or causal with an alignment).

        Raises:
            UserError: If a term is unknown, all weights are zero, or the arm lacks the alignment they need.
        """
        config, recipe = self.config.arms[arm], self._recipe(arm)
        given, has_alignment = config.weights or dict(recipe.weights if recipe else {}), config.alignment is not None
        if not given:
            return ObjectiveWeights.causal() if has_alignment else ObjectiveWeights.standard()
        where = f"arms.{arm}.weights" if config.weights else f"arms.{arm}.recipe {config.recipe}"
        weights = ObjectiveWeights.from_dict(given, where)
        if weights.needs_alignment and not has_alignment:
            raise UserError(
                f"{where}: causal_* weights, strict and aligned_mse need an alignment; give one, or set them to 0"
            )
        return weights

    def _recipe(self, arm: str) -> Recipe | None:
        name = self.config.arms[arm].recipe
        return None if name is None else RECIPES[name]

    def arm_training(self, arm: str, output: Path) -> CausalDistillationConfig:
        """Return the trainer's settings for an arm; `output` is where it keeps checkpoints.

        Raises:
            UserError: If a setting is unknown or unusable.
        """
        recipe = self._recipe(arm)
        given: dict[str, Mapping[str, Any]] = {
            "training": self.config.training,
            f"arms.{arm}.recipe": recipe.training_of(self.config.task) if recipe else {},
            f"arms.{arm}.training": self.config.arms[arm].training,
        }
        settings: dict[str, Any] = {"seed": self.config.seed, "disable_tqdm": not sys.stderr.isatty()}
        for where, section in given.items():
            for name in ("task", "temperature", "weights", "output_dir", "seed"):
                if name in section:
                    raise UserError(
                        f"{where}.{name}: this is set by the config's task, arms, output and seed; leave it out"
                    )
            require_settings(CausalDistillationConfig, section, where)
            settings |= section
        weights = self.arm_weights(arm)
        refuse_unread(self.config.arms[arm].training, weights, f"arms.{arm}.training")
        settings |= {
            "task": self.config.task,
            "temperature": self.config.arms[arm].temperature,
            "weights": weights.model_dump(),
        }
        return training_config(str(output), settings)

    def verified_alignment(self, student: PreTrainedModel) -> Alignment:
        """Return the alignment that students are verified by: as configured, or the first that an arm has."""
        given = {"verification": self.config.verification.alignment}
        given |= {f"arms.{name}": arm.alignment for name, arm in self.config.arms.items()}
        for where, candidate in given.items():
            if candidate is not None:
                return self.alignment(candidate, student, f"{where}.alignment")
        raise UserError("nothing says how to verify: give verification.alignment, or an arm with an alignment")


def tokenizer_settings(task: Task) -> dict[str, Any]:
    """Return what tokenizers are told for a task: words that come one by one have lost the spaces before them."""
    return {"add_prefix_space": True} if task == "token_classification" else {}


def untrained_control(prepared: Prepared, alignment: Alignment, student: PreTrainedModel) -> dict[str, PreTrainedModel]:
    """Return the control of a finished student: the config's, if it is as deep and has the alignment's sites.

    It is the student's own class with random weights if the config says neither what is trained nor from where. So it
    is if the config's student is the one that is judged, since it is named as the checkpoint to start from or an arm is
    frozen.
    """
    origin = prepared.config.student
    if not prepared.config.arms and origin == StudentConfig():
        return {UNTRAINED: _at_random(prepared, student)}
    untrained = prepared.new_student()
    if untrained.config.num_hidden_layers != student.config.num_hidden_layers:
        return {}
    try:
        resolve(alignment, untrained, "student")
    except UserError:
        return {}
    finished = origin.checkpoint is not None or any(_is_frozen(prepared, arm) for arm in prepared.config.arms)
    if finished and len({fingerprint_of_weights(model.state_dict()) for model in (untrained, student)}) == 1:
        return {UNTRAINED: _at_random(prepared, student)}
    return {UNTRAINED: untrained}


def control_of_run(prepared: Prepared, untrained: PreTrainedModel, judged: str) -> PreTrainedModel:
    """Return the control of a run: the student before training, or its class with random weights if it is frozen.

    A frozen student is after training what it was before: what is learned on it twice says nothing.

    Args:
        prepared: The config with what it names.
        untrained: The student before training.
        judged: The arm that the verdict is on.
    """
    return _at_random(prepared, untrained) if _is_frozen(prepared, judged) else untrained


def _is_frozen(prepared: Prepared, arm: str) -> bool:
    return prepared.arm_training(arm, Path("unused")).freeze_student


def _at_random(prepared: Prepared, model: PreTrainedModel) -> PreTrainedModel:
    set_seed(prepared.config.seed)
    return drawn_anew(model)


def _positions(data: MixedConfig, name: str) -> Positions | None:
    """Return the positions that are swapped in further data."""
    if data.positions is None:
        return None
    sources = {"kind": "paired" if data.paired else "in_batch"}
    site = [{"component": "block_output", "layer": 0}]
    content = {"name": name, "variables": [{"name": "any", "teacher": site, "student": site}]}
    return Alignment.from_dict(
        {**content, "positions": data.positions, "sources": sources}, f"mixture.{name}"
    ).positions


def fingerprint_of_rows(rows: Dataset) -> str:
    """Return what identifies rows: their token ids and, in classification, their labels or tags."""
    labels = [numbers_of(rows, "label")] if "label" in rows.column_names else []
    lists = [*id_columns(rows), *(["tags"] if "tags" in rows.column_names else [])]
    return fingerprint_of_lists([*lists_of(rows, *lists), *((one, np.array([len(one)])) for one in labels)])
