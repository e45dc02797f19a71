from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from iit_toolkit.distillation.losses import cross_entropy_to_labels, distillation_loss
from iit_toolkit.distillation.vocabulary_loss import Head, vocabulary_losses
from iit_toolkit.errors import UserError

deterministic = settings(derandomize=True, max_examples=40, deadline=None)


def make_head(rows: int, words: int, width: int, seed: int, bias: bool = True, scale: float = 1.0) -> Head:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Head(draw(rows, width), draw(words, width) * scale, draw(words) * scale if bias else None)


def make_labels(rows: int, words: int, labelled: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1000)
    labels = torch.randint(words, (rows,), generator=generator)
    return labels.masked_fill(torch.rand(rows, generator=generator) >= labelled, -100)


def cast(head: Head, dtype: torch.dtype) -> Head:
    return Head(head.features.to(dtype), head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype))


def logits(head: Head) -> Tensor:
    return F.linear(head.features, head.weight, head.bias)


def leaves(head: Head) -> list[Tensor]:
    return [x.requires_grad_() for x in (head.features, head.weight, head.bias) if x is not None]


def twin(
    student: Head,
    teacher: Head | None,
    labels: Tensor | None,
    ce: float,
    task: float,
    t: float,
    row_weights: Tensor | None = None,
) -> list[Tensor]:
    scores = logits(student)
    zero = scores.sum() * 0
    ce_loss = zero if teacher is None else distillation_loss(scores, logits(teacher), t, row_weights)
    task_loss = zero if labels is None else cross_entropy_to_labels(scores, labels)
    return [ce * ce_loss + task * task_loss, ce_loss, task_loss]


@deterministic
@given(
    rows=st.integers(0, 9),
    words=st.integers(1, 35),
    width=st.integers(1, 6),
    teacher_width=st.integers(0, 5),
    chunk=st.integers(1, 10),
    labelled=st.sampled_from([None, 0.0, 0.3, 1.0]),
    bias=st.booleans(),
    weights=st.sampled_from([(1.0, 1.0), (0.25, 0.7), (0.0, 2.0), (3.0, 0.0), (0.0, 0.0)]),
    temperature=st.sampled_from([1.0, 2.0, 3.7]),
    upstream=st.sampled_from([1.0, 0.5, 1024.0]),
    weighted=st.sampled_from(["equally", "by row", "by nothing"]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_losses(
    rows: int,
    words: int,
    width: int,
    teacher_width: int,
    chunk: int,
    labelled: float | None,
    bias: bool,
    weights: tuple[float, float],
    temperature: float,
    upstream: float,
    weighted: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    student = cast(make_head(rows, words, width, seed, bias), dtype)
    by_row = torch.linspace(0, 3, rows, dtype=dtype) if weighted == "by row" else torch.zeros(rows, dtype=dtype)
    row_weights = None if weighted == "equally" else by_row
    teacher = cast(make_head(rows, words, teacher_width, seed + 1), dtype) if teacher_width else None
    labels = None if labelled is None else make_labels(rows, words, labelled, seed)
    inputs = leaves(student)
    expected = twin(student, teacher, labels, *weights, temperature, row_weights)
    found = vocabulary_losses(
        student,
        teacher,
        labels,
        row_weights=row_weights,
        ce_weight=weights[0],
        task_weight=weights[1],
        temperature=temperature,
        chunk=chunk,
    )
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for value, true_value in zip((found.total, found.ce, found.task), expected, strict=True):
        torch.testing.assert_close(value, true_value.detach(), **tolerance, check_dtype=True)
    gradients = torch.autograd.grad(found.total * upstream, inputs)
    true_gradients = torch.autograd.grad(expected[0] * upstream, inputs)
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        torch.testing.assert_close(gradient / upstream, true_gradient / upstream, **tolerance)


def test_a_tied_weight_gets_both_gradients_from_two_calls_and_accumulated_steps() -> None:
    words, width = 21, 5
    teacher = [make_head(7, words, 4, seed) for seed in (1, 2)]
    tokens = torch.arange(14).view(2, 7) % words
    labels = make_labels(7, words, 0.5, 0)

    def step(losses: Any) -> tuple[Tensor, Tensor]:
        embedding = make_head(1, words, width, 5).weight.requires_grad_()
        bias = torch.zeros(words, dtype=torch.float64, requires_grad=True)
        for scale in (1.0, 0.5):  # two accumulated micro-batches, the second with another loss scale
            base, changed = (Head(embedding[t].tanh() * scale, embedding, bias) for t in tokens)
            total = losses(base, teacher[0], labels) + losses(changed, teacher[1], None)
            (total * 3).backward()
        assert embedding.grad is not None and bias.grad is not None
        return embedding.grad, bias.grad

    found = step(lambda s, t, y: vocabulary_losses(s, t, y, ce_weight=0.3, task_weight=0.7, chunk=3).total)
    expected = step(lambda s, t, y: twin(s, t, y, 0.3, 0.7, 2.0)[0])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_agree_with_finite_differences() -> None:
    teacher, labels = make_head(4, 6, 2, 1), torch.tensor([1, -100, 5, -100])
    student = make_head(4, 6, 3, 0)

    def total() -> Tensor:
        return vocabulary_losses(student, teacher, labels, chunk=3).total

    for values, gradient in zip(leaves(student), torch.autograd.grad(total(), leaves(student)), strict=True):
        numeric, flat = torch.zeros(values.numel(), dtype=torch.float64), values.detach().view(-1)
        for i in range(flat.numel()):
            flat[i] += 1e-6
            above = total().item()
            flat[i] -= 2e-6
            numeric[i] = (above - total().item()) / 2e-6
            flat[i] += 1e-6
        torch.testing.assert_close(gradient, numeric.view_as(gradient), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite_and_right(dtype: torch.dtype) -> None:
    one = torch.tensor([[1.0], [-1.0], [1.0]], dtype=dtype)
    student = Head(one.clone(), torch.tensor([[1e4], [-1e4], [0.0]], dtype=dtype))
    teacher = Head(one.flip(0) * torch.tensor([[1.0], [1.0], [-1.0]]), student.weight.clone())
    labels = torch.tensor([0, 0, 2])
    inputs = leaves(student)
    found = vocabulary_losses(student, teacher, labels)
    expected = twin(student, teacher, labels, 1.0, 1.0, 2.0)
    torch.testing.assert_close(found.total, expected[0])
    gradients = torch.autograd.grad(found.total, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected[0], inputs))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_scores_far_below_zero_leave_no_probability_past_the_vocabulary() -> None:
    student = replace(make_head(5, 17, 3, 0), bias=torch.full((17,), -1e6, dtype=torch.float64))
    teacher = make_head(5, 17, 3, 1)
    expected = distillation_loss(logits(student), logits(teacher))
    torch.testing.assert_close(vocabulary_losses(student, teacher).ce, expected)


def test_bfloat16_products_are_close() -> None:
    student, teacher = (cast(make_head(64, 300, 32, seed, scale=0.3), torch.float32) for seed in (0, 1))
    labels = make_labels(64, 300, 0.3, 0)
    inputs = leaves(student)
    exact = vocabulary_losses(student, teacher, labels, chunk=20)
    rounded = vocabulary_losses(student, teacher, labels, chunk=20, dtype=torch.bfloat16)
    assert rounded.total.dtype == torch.float32
    assert rounded.total.item() != exact.total.item()
    assert rounded.total.item() == pytest.approx(exact.total.item(), rel=5e-3)
    pairs = zip(torch.autograd.grad(exact.total, inputs), torch.autograd.grad(rounded.total, inputs), strict=True)
    for true_gradient, gradient in pairs:
        assert gradient.dtype == torch.float32
        assert (gradient - true_gradient).norm() < 2e-2 * true_gradient.norm()


def test_small_gradients_survive_bfloat16() -> None:
    student, teacher = (cast(make_head(64, 300, 32, seed), torch.float32) for seed in (0, 0))
    student = replace(student, weight=student.weight * 1.05)
    inputs = leaves(student)
    gradients = [
        torch.autograd.grad(vocabulary_losses(student, teacher, ce_weight=w, dtype=torch.bfloat16).total, inputs)
        for w in (1.0, 2.0**-60)
    ]
    for large, small in zip(*gradients, strict=True):
        torch.testing.assert_close(small * 2.0**60, large)


def test_autocast_changes_nothing() -> None:
    student, teacher = (cast(make_head(10, 40, 8, seed), torch.float32) for seed in (0, 1))
    outside = vocabulary_losses(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vocabulary_losses(student, teacher)
    assert torch.equal(outside.total, inside.total)


def test_half_precision_features_get_gradients_of_their_own_type() -> None:
    student = cast(make_head(6, 20, 4, 0), torch.float32)
    student = replace(student, features=student.features.bfloat16())
    inputs = leaves(student)
    gradients = torch.autograd.grad(vocabulary_losses(student, make_head(6, 20, 4, 1)).total, inputs)
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32, torch.float32]


def test_only_wanted_gradients_are_made() -> None:
    student, teacher = make_head(6, 20, 4, 0), make_head(6, 20, 4, 1)
    teacher.weight.requires_grad_()
    frozen = vocabulary_losses(student, teacher)
    assert not frozen.total.requires_grad
    student.features.requires_grad_()
    vocabulary_losses(student, teacher).total.backward()
    assert student.features.grad is not None
    assert student.weight.grad is None and teacher.weight.grad is None


def test_evaluation_makes_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = make_head(6, 20, 4, 0), make_head(6, 20, 4, 1)
    leaves(student)
    monkeypatch.delattr("iit_toolkit.distillation.vocabulary_loss._Gradients.add")
    with torch.no_grad():
        vocabulary_losses(student, teacher)
    with pytest.raises(AttributeError, match="'add'"):
        vocabulary_losses(student, teacher)


def test_evaluation_gives_the_same_values_also_after_inference_mode() -> None:
    student, teacher, labels = (
        make_head(6, 2000, 4, 0),
        make_head(6, 2000, 4, 1),
        make_labels(6, 2000, 0.5, 0),
    )
    leaves(student)

    def in_a_new_thread() -> None:
        with torch.inference_mode():
            values.append(vocabulary_losses(student, teacher, labels).total)
        with torch.no_grad():
            values.append(vocabulary_losses(student, teacher, labels).total)
        values.append(vocabulary_losses(student, teacher, labels).total)

    values: list[Tensor] = []
    thread = threading.Thread(target=in_a_new_thread)
    thread.start()
    thread.join()
    assert len({value.item() for value in values}) == 1
    assert [value.requires_grad for value in values] == [False, False, True]


def test_a_second_backward_pass_is_refused() -> None:
    student = make_head(3, 5, 2, 0)
    leaves(student)
    total = vocabulary_losses(student, make_head(3, 5, 2, 1)).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="earlier backward pass"):
        total.backward()


def test_unequal_vocabularies_are_refused() -> None:
    with pytest.raises(UserError, match="30 words.*31"):
        vocabulary_losses(make_head(3, 30, 2, 0), make_head(3, 31, 2, 0))


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_of_tokens_times_vocabulary_exists(dtype: torch.dtype) -> None:
    rows, words, width, chunk = 512, 400, 8, 16
    student, teacher = (cast(make_head(rows, words, width, seed), torch.float32) for seed in (0, 1))
    labels = make_labels(rows, words, 1.0, 0)

    def largest(use: Any) -> int:
        leaves(student)
        with LargestTensor() as mode:
            use().backward()
        return mode.elements

    assert largest(lambda: twin(student, teacher, labels, 1.0, 1.0, 2.0)[0]) >= rows * words

    def in_a_new_thread() -> None:  # so that no memory of another test is reused
        sizes.append(largest(lambda: vocabulary_losses(student, teacher, labels, chunk=chunk, dtype=dtype).total))

    sizes: list[int] = []
    thread = threading.Thread(target=in_a_new_thread)
    thread.start()
    thread.join()
    assert sizes[0] == 3 * chunk * words  # two chunks and a block, here as large
