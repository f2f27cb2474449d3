"""Number of threads by the size of a step."""

from __future__ import annotations

import pytest
import torch

from geoguesser.system.cpu import MIN_MULTIPLICATIONS, limit_threads


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("work", "threads"), [(1, 1), (MIN_MULTIPLICATIONS - 1, 1), (MIN_MULTIPLICATIONS, 2)])
def test_small_steps_get_one_thread(work: int, threads: int) -> None:
    with limit_threads(work):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="enough"), limit_threads(1):
        raise RuntimeError("enough")
    assert torch.get_num_threads() == 2
