"""The two losses over the vocabulary, chunk by chunk: no (tokens x vocabulary) tensor ever exists.

The last step of a language model is a matrix product with a (V, D) weight. Its (N, V) logits are by far
the largest tensors of a distillation step. Here the logits of a chunk of rows are made, compared and dropped.
The gradients are made in the same pass, since the backward pass would have to compute the logits once more.

Each loss equals its plain twin in `iit_toolkit.distillation.losses`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.distillation.losses import mean_one
from iit_toolkit.errors import UserError

_CACHED = 2**17


@dataclass(frozen=True)
class Head:
    """The plain linear layer that ends a language model, and what enters it.

    Attributes:
        features: (N, D), what enters the layer at the N evaluated tokens.
        weight: (V, D).
        bias: (V,), or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class VocabularyLosses:
    """What `vocabulary_losses` returns: three scalars.

    Attributes:
        total: The weighted sum, for the backward pass.
        ce: The value of `losses.distillation_loss`, without graph.
        task: The value of `losses.cross_entropy_to_labels`, without graph.
    """

    total: Tensor
    ce: Tensor
    task: Tensor


def vocabulary_losses(
    student: Head,
    teacher: Head | None = None,
    labels: Tensor | None = None,
    *,
    row_weights: Tensor | None = None,
    ce_weight: float = 1.0,
    task_weight: float = 1.0,
    temperature: float = 2.0,
    chunk: int = 512,
    dtype: torch.dtype = torch.float32,
) -> VocabularyLosses:
    """Compute the distillation loss and the cross entropy over the vocabulary, with their gradients.

    Gradients reach the student's features, weight and bias; the teacher is a constant. A weight tied to the
    embedding gets both of its gradients. The backward pass runs once, and cannot be differentiated again.

    Args:
        student: N rows of width D_s, V words.
        teacher: The same N rows, of width D_t, the same V words; None leaves `ce` zero.
        labels: (N,) long gold words, `IGNORE_INDEX` if there is none; None leaves `task` zero.
        row_weights: (N,) how much each row counts in the mean of `ce`; all the same if absent.
        ce_weight: Weight of the distillation loss in the total.
        task_weight: Weight of the cross entropy in the total.
        temperature: Temperature of the distillation loss.
        chunk: Rows whose logits exist at a time; two (chunk, V) buffers are held, and a smaller one.
        dtype: Precision of the matrix products. With bfloat16 the logits are rounded to it, and the softmax is still
            taken in float32. float64 features stay float64.

    Raises:
        UserError: If the two vocabularies differ in size.
    """
    if teacher is not None and len(teacher.weight) != len(student.weight):
        raise UserError(
            f"the student's vocabulary has {len(student.weight)} words, the teacher's {len(teacher.weight)}; "
            "their answers are compared word by word, so give the student the teacher's tokenizer"
        )
    rows = student.features
    if teacher is None:  # only the labelled rows count
        labelled = _labelled(labels, rows)
        rows, labels = rows[labelled], None if labels is None else labels[labelled]
    settings = _Settings(
        ce_weight=ce_weight if teacher is not None else 0.0,
        task_weight=task_weight if labels is not None else 0.0,
        temperature=temperature,
        chunk=chunk,
        dtype=torch.float64 if rows.dtype == torch.float64 else dtype,
        row_factors=None if row_weights is None or teacher is None else mean_one(row_weights.to(rows.dtype)),
        gradients=torch.is_grad_enabled(),
    )
    losses: tuple[Tensor, Tensor, Tensor] = _VocabularyLosses.apply(  # pyright: ignore[reportAssignmentType]
        rows, student.weight, student.bias, teacher, labels, settings
    )
    return VocabularyLosses(*losses)


@dataclass(frozen=True)
class _Settings:
    ce_weight: float
    task_weight: float
    temperature: float
    chunk: int
    dtype: torch.dtype
    row_factors: Tensor | None
    gradients: bool


class _VocabularyLosses(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        teacher: Head | None,
        labels: Tensor | None,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needed = ctx.needs_input_grad[:3] if settings.gradients else (False, False, False)
        with torch.autocast(features.device.type, enabled=False):
            ce, task, ctx.gradients = _scan(Head(features, weight, bias), teacher, labels, settings, needed)
        ctx.mark_non_differentiable(ce, task)
        return settings.ce_weight * ce + settings.task_weight * task, ce, task

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("vocabulary_losses: an earlier backward pass has used up its gradients")
        made, ctx.gradients = ctx.gradients, None  # given away, so that autograd need not copy them
        gradients = (made.features, made.weight, made.bias)
        if upstream.device.type != "cpu" or float(upstream) != 1:  # on a GPU, looking at it costs more than the product
            gradients = tuple(g if g is None else g.mul_(upstream) for g in gradients)
        return *gradients, None, None, None


@dataclass(frozen=True)
class _Gradients:
    """The gradients of features, weight and bias that are wanted; uninitialised until the first chunk is added."""

    features: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def zero(self) -> None:
        for gradient in (self.features, self.weight, self.bias):
            if gradient is not None:
                gradient.zero_()

    def add(self, student: Head, part: slice, slope: Tensor, unit: float) -> None:
        """Add what the (chunk, V) gradient of a chunk's logits, divided by `unit`, means for each of them."""
        rounded, features = slope.to(student.weight.dtype), student.features[part]
        if self.features is not None:
            torch.mul(rounded @ student.weight, unit, out=self.features[part])
        if self.weight is not None:
            self._add_to_weight(self.weight, rounded, features, unit, first=part.start == 0)
        if self.bias is not None:
            units = torch.full((len(slope),), unit, dtype=slope.dtype, device=slope.device)
            torch.addmv(self.bias, slope.T, units, beta=int(part.start > 0), out=self.bias)

    @staticmethod
    def _add_to_weight(weight: Tensor, slope: Tensor, features: Tensor, unit: float, *, first: bool) -> None:
        if slope.dtype != weight.dtype:  # the sum over chunks stays in float32
            product = slope.T @ features
            torch.mul(product, unit, out=weight) if first else weight.add_(product, alpha=unit)
        elif first:  # not added to zeros, which would have to be written first
            torch.mm(slope.T, features * unit, out=weight)
        else:
            weight.addmm_(slope.T, features, alpha=unit)


def _scan(
    student: Head,
    teacher: Head | None,
    labels: Tensor | None,
    settings: _Settings,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, _Gradients]:
    """Go over the rows once; return the mean distillation loss, the mean cross entropy, and their sum's gradients.

    Gradients of logits are kept divided by `unit`, so that they are of order one: half precision can carry them.
    """
    exact = torch.float64 if settings.dtype == torch.float64 else torch.float32
    count, words, t = len(student.features), len(student.weight), settings.temperature
    labelled = _labelled(labels, student.features)
    labelled_count = max(len(labelled), 1)
    factors = None if settings.row_factors is None else settings.row_factors.to(exact)
    ce_slope = settings.ce_weight * t / max(count, 1)
    task_slope = settings.task_weight / labelled_count
    unit = ce_slope or task_slope or 1.0

    def empty(like: Tensor | None, wanted: bool) -> Tensor | None:
        return torch.empty_like(like, dtype=exact) if like is not None and wanted else None

    gradients = _Gradients(
        empty(student.features, needed[0]), empty(student.weight, needed[1]), empty(student.bias, needed[2])
    )
    if not count:
        gradients.zero()
    biases = [_softened_bias(head, t, exact) for head in (student, teacher)]
    ce, task = student.features.new_zeros(count, dtype=exact), student.features.new_zeros((), dtype=exact)
    student = _cast(student, settings.dtype)
    teacher = None if teacher is None else _cast(teacher, settings.dtype)

    # Rows of a multiple of 64 bytes are multiplied faster. Columns past the vocabulary get probability zero.
    columns, chunk = -(-words // 16) * 16, min(settings.chunk, count)
    step = _block_rows(columns, chunk, student.features.device)
    buffer = _buffer((2 * chunk + step, columns), exact, student.features.device)
    slopes, others, probabilities = buffer.split([chunk, chunk, step])
    blocks = [
        first for start in range(0, count, settings.chunk) for first in range(start, min(start + chunk, count), step)
    ]
    gold_rows_of = dict(zip(blocks, _split(labelled, blocks), strict=True))
    for start in range(0, count, settings.chunk):
        part = slice(start, min(start + chunk, count))
        _scores(student, part, t, out=slopes[: part.stop - start])
        if teacher is not None:
            _scores(teacher, part, t, out=others[: part.stop - start])
        for first in range(start, part.stop, step):
            rows = slice(first - start, min(first + step, part.stop) - start)
            slope, spare, teacher_p = slopes[rows], others[rows], probabilities[: rows.stop - rows.start]
            _shift(slope[:, :words], biases[0])
            teacher_sum = None
            if teacher is not None:
                _shift(spare[:, :words], biases[1])
                teacher_sum = torch.exp(spare, out=teacher_p).sum(-1, keepdim=True)
                divergence = spare.sub_(slope).mul_(teacher_p)[:, :words].sum(-1) / teacher_sum[:, 0]
                ce[first : first + len(slope)] = divergence
            gold_rows = gold_rows_of[first]
            golden = spare[: len(gold_rows)]
            if labels is not None and len(gold_rows):
                gold = torch.arange(len(gold_rows), device=labels.device), labels[gold_rows]
                torch.index_select(slope, 0, gold_rows - first, out=golden)
                torch.log_softmax(golden.mul_(t), -1, out=golden)  # back to temperature 1
                task -= golden[gold].sum() / labelled_count
                golden.exp_()[gold] -= 1
            if teacher_sum is not None:
                student_sum = slope.exp_().sum(-1, keepdim=True)
                ce[first : first + len(slope)] += (student_sum / teacher_sum).log()[:, 0]
                counts = 1.0 if factors is None else factors[first : first + len(slope), None]
                slope.mul_(counts / student_sum).addcmul_(teacher_p, counts / teacher_sum, value=-1)
            if any(needed):
                if not ce_slope:
                    slope.zero_()
                slope.index_add_(0, gold_rows - first, golden, alpha=task_slope / unit)
        if any(needed):
            gradients.add(student, part, slopes[: part.stop - start, :words], unit)
    ce = ce if factors is None else ce * factors
    return ce.sum() * (t**2 / max(count, 1)), task, gradients


def _split(labelled: Tensor, blocks: list[int]) -> tuple[Tensor, ...]:
    """Return the labelled rows of each block, given the first row of each."""
    if not blocks:
        return ()
    bounds = torch.searchsorted(labelled, torch.tensor(blocks[1:], device=labelled.device, dtype=labelled.dtype))
    return torch.tensor_split(labelled, bounds.tolist())


def _scores(head: Head, part: slice, temperature: float, *, out: Tensor) -> None:
    """Write the softened logits of the rows `part`, without bias, to `out` (chunk, padded V); -inf past the vocabulary.

    The bias is left to `_shift`: adding it in the product means writing it to every row first.
    """
    words = len(head.weight)
    scores = out if head.weight.dtype == out.dtype else torch.empty_like(out, dtype=head.weight.dtype)
    products = scores[:, :words]
    torch.addmm(products, head.features[part], head.weight.T, beta=0, alpha=1 / temperature, out=products)
    if scores is not out:
        out.copy_(scores)
    out[:, words:] = -torch.inf


def _softened_bias(head: Head | None, temperature: float, dtype: torch.dtype) -> Tensor | None:
    return None if head is None or head.bias is None else head.bias.detach().to(dtype) / temperature


def _shift(scores: Tensor, bias: Tensor | None) -> None:
    """Add the bias, and take each row's maximum from it: its exponentials then neither overflow nor all vanish."""
    if bias is not None:
        scores.add_(bias)
    scores.sub_(scores.amax(-1, keepdim=True))


def _block_rows(columns: int, chunk: int, device: torch.device) -> int:
    """Return how many rows of logits are compared at a time: on a CPU, those that fit into its cache."""
    return min(chunk, max(1, _CACHED // columns)) if device.type == "cpu" else chunk


def _cast(head: Head, dtype: torch.dtype) -> Head:
    return Head(head.features.detach().to(dtype), head.weight.detach().to(dtype))


def _labelled(labels: Tensor | None, features: Tensor) -> Tensor:
    """Return the rows that have a gold word, ascending."""
    if labels is None:
        return torch.empty(0, dtype=torch.long, device=features.device)
    return torch.nonzero(labels != IGNORE_INDEX).flatten()


_kept = threading.local()


def _buffer(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return uninitialised memory; on a CPU, that of this thread's last call if it is large enough.

    A new allocation of this size gets new pages from the system, which costs up to a fifth of the time.
    """
    if device.type != "cpu":  # the CUDA allocator keeps its memory itself
        return torch.empty(shape, dtype=dtype, device=device)
    size = shape[0] * shape[1]
    memory: Tensor | None = getattr(_kept, "memory", None)
    if memory is None or memory.dtype != dtype or memory.numel() < size:
        with torch.inference_mode(False):  # else it could not be written outside of inference mode
            memory = _kept.memory = torch.empty(size, dtype=dtype)
    return memory[:size].view(shape)
