"""Batches wait for each other at every meeting point, and those that join late pass in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.methods.calibration.lockstep import Lockstep

POINTS = ("a", "b", "c")


def batches(count: int) -> list[Tensor]:
    return [torch.tensor([float(i)]) for i in range(count)]


def walk(count: int, room: dict[str, int]) -> tuple[list[tuple[str, list[float]]], list[Any]]:
    """What was gathered at each point, and what each batch was answered."""
    gathered: list[tuple[str, list[float]]] = []
    answers: list[Any] = []

    def gather(name: str, payloads: list[float]) -> float:
        gathered.append((name, payloads))
        return sum(payloads)

    def run(batch: Tensor) -> None:
        answers.append([lockstep.meet(name, float(batch)) for name in POINTS])

    lockstep: Lockstep[float] = Lockstep(run, gather, room.__getitem__)
    lockstep.go(batches(count))
    return gathered, answers


@given(st.integers(1, 6), st.lists(st.integers(1, 6), min_size=3, max_size=3))
def test_all_that_have_room_bring_theirs_in_order(count: int, rooms: list[int]) -> None:
    room = dict(zip(POINTS, rooms, strict=True))
    gathered, answers = walk(count, room)
    assert [name for name, _ in gathered] == list(POINTS)
    present = 0
    for name, payloads in gathered:
        present = max(present, min(count, room[name]))
        assert payloads == [float(i) for i in range(present)]
    for i, answered in enumerate(answers):
        for (_, payloads), answer in zip(gathered, answered, strict=True):
            assert answer == (sum(payloads) if i < len(payloads) else None)


def test_without_meeting_points_the_first_batch_alone_goes_through() -> None:
    ran: list[float] = []
    lockstep: Lockstep[float] = Lockstep(lambda x: ran.append(float(x)), lambda *_: None, len)
    lockstep.go(batches(3))
    assert ran == [0.0]


@pytest.mark.parametrize("where", POINTS)
def test_an_error_ends_all_of_them_and_is_raised(where: str) -> None:
    ended: list[float] = []

    def gather(name: str, _: list[float]) -> None:
        if name == where:
            raise ValueError(name)

    def run(batch: Tensor) -> None:
        try:
            for name in POINTS:
                lockstep.meet(name, float(batch))
        finally:
            ended.append(float(batch))

    lockstep: Lockstep[float] = Lockstep(run, gather, lambda _: 3)
    with pytest.raises(ValueError, match=where):
        lockstep.go(batches(3))
    assert sorted(ended) == [0.0, 1.0, 2.0]


def test_an_error_of_the_model_is_raised() -> None:
    def run(batch: Tensor) -> None:
        lockstep.meet("a", float(batch))
        if float(batch) == 1:
            raise ValueError("the second")

    lockstep: Lockstep[float] = Lockstep(run, lambda *_: None, lambda _: 3)
    with pytest.raises(ValueError, match="the second"):
        lockstep.go(batches(3))
