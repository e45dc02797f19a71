"""Memory that runs out is told in one line; other errors stay what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from iit_toolkit.errors import UserError
from iit_toolkit.runs.memory import OutOfMemoryError, told_if_out_of_memory

TOO_MUCH = 2**52


def raised_by_libraries() -> list[BaseException]:
    found: list[BaseException] = []
    for make in (lambda: torch.empty(TOO_MUCH), lambda: np.empty(TOO_MUCH), lambda: bytearray(2**62)):
        try:
            make()
        except (MemoryError, RuntimeError) as error:
            found.append(error)
    return found


@pytest.mark.parametrize(
    "error",
    [
        *raised_by_libraries(),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_ran_out_is_one_line(error: BaseException) -> None:
    with pytest.raises(OutOfMemoryError) as told, told_if_out_of_memory("training", "lower the batch size"):
        raise error
    assert str(told.value).startswith("training: memory ran out") and str(told.value).endswith("lower the batch size")
    assert len(str(told.value)) < 200 and "\n" not in str(told.value)


def test_three_libraries_ran_out_and_the_size_is_told() -> None:
    errors = raised_by_libraries()
    assert len(errors) == 3
    with pytest.raises(OutOfMemoryError, match=r"allocate \d+ bytes"), told_if_out_of_memory("training", "less"):
        raise errors[0]


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), UserError("out of memory"), OSError(2, "no file")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as same, told_if_out_of_memory("training", "lower the batch size"):
        raise error
    assert same.value is error
