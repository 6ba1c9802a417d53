"""Ctrl-C is heard: never swallowed, never turned into something else, once it may be."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from compression.cli.interrupts import Interrupts, postponed
from compression.errors import Cancelled
from compression.runs.progress import Progress


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Python's own handler, whatever the shell that started the tests has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt() -> None:
    def interrupted_import() -> None:
        try:
            press()
        except KeyboardInterrupt:
            raise ImportError("cannot import name 'array'") from None

    with pytest.raises(KeyboardInterrupt), Interrupts().heard():
        interrupted_import()


def test_an_error_of_its_own_stays_one() -> None:
    with pytest.raises(ImportError), Interrupts().heard():
        raise ImportError("cannot import name 'array'")


def test_a_postponed_interrupt_comes_at_the_end() -> None:
    order: list[str] = []

    def work() -> None:
        press()
        order.append("worked on")

    with pytest.raises(KeyboardInterrupt), postponed():
        work()
    assert order == ["worked on"]
    with postponed():
        pass


def test_the_first_one_ends_a_training_that_keeps_and_the_second_ends_all() -> None:
    interrupts = Interrupts(keeping=True)
    progress = Progress(stage="Training", fraction=0.5, keeps=True)
    with interrupts.heard():
        interrupts.check(progress)
        press()
        with pytest.raises(Cancelled):
            interrupts.check(progress)
        interrupts.check(progress)  # passed on once
        with pytest.raises(KeyboardInterrupt):
            press()


@pytest.mark.parametrize(("keeping", "keeps"), [(False, True), (True, False)])
def test_it_ends_all_at_once_where_nothing_can_be_kept(keeping: bool, keeps: bool) -> None:
    interrupts = Interrupts(keeping)
    with interrupts.heard():
        interrupts.check(Progress(stage="Training", fraction=0.5, keeps=keeps))
        with pytest.raises(KeyboardInterrupt):
            press()
