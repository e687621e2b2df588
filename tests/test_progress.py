"""Progress that is heard of while a step is silent: several times a second, never further than it was, never after."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker import progress
from cellworker.experiment.store.blocks import Meter
from cellworker.progress import RepeatedProgress, outcome_of, reporting

Told = list[tuple[str, float | None]]
LONG_S = 60.0


@pytest.fixture(autouse=True)
def threads(monkeypatch) -> Iterator[None]:
    """Reports come at once, and no thread is left."""
    monkeypatch.setattr(progress, "REPORT_S", 0.001)
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Listener:
    """Keeps what it is told; a step goes on when it was told often enough."""

    def __init__(self, enough: int) -> None:
        self.told: Told = []
        self.go_on = threading.Event()
        self._enough = enough
        self.threads: set[int] = set()

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        self.threads.add(threading.get_ident())
        self.told.append((stage, fraction))
        if len(self.told) >= self._enough:
            self.go_on.set()

    def blocked(self) -> str:
        """Be a step that tells nothing, and that only the listener ends."""
        assert self.go_on.wait(LONG_S), f"nothing was heard but {self.told}"
        return "done"


def test_a_step_that_blocks_is_heard_of_with_the_last_stage_and_fraction():
    listener = Listener(4)
    repeated = RepeatedProgress(listener, "opening the file")
    repeated("writing", 0.25)
    assert repeated.during(listener.blocked) == "done"
    assert set(listener.told) == {("writing", 0.25)}
    assert listener.threads == {threading.get_ident()}


def test_before_the_first_word_there_is_a_stage_and_no_fraction():
    listener = Listener(1)
    RepeatedProgress(listener, "opening the file").during(listener.blocked)
    assert set(listener.told) == {("opening the file", None)}


def test_a_short_step_is_not_heard_of_and_needs_no_listener(monkeypatch):
    monkeypatch.setattr(progress, "REPORT_S", LONG_S)
    listener = Listener(1)
    assert RepeatedProgress(listener, "opening").during(lambda: 1) == 1
    assert listener.told == []
    silent = RepeatedProgress(None, "opening")
    silent("writing", 0.5)
    silent.again()
    assert silent.during(threading.get_ident) == threading.get_ident()


def test_nothing_is_told_after_the_end():
    listener = Listener(2)
    repeated = RepeatedProgress(listener, "opening")
    repeated.during(listener.blocked)
    told = len(listener.told)
    assert reporting(lambda: "next", None) == "next"
    assert len(listener.told) == told


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.sampled_from("ab"), st.none() | st.floats(0, 1, allow_nan=False))),
        max_size=20,
    )
)
def test_what_is_told_again_is_what_was_told_last(acts):
    listener, last = Listener(100), ("opening", None)
    repeated = RepeatedProgress(listener, "opening")
    for act in acts:
        if act is None:
            repeated.again()
        else:
            repeated(*act)
            last = act
        assert listener.told[-1] == last
    assert len(listener.told) == len(acts)


def test_an_error_of_the_step_comes_out_as_it_is():
    listener = Listener(2)

    def failing() -> None:
        listener.blocked()
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        RepeatedProgress(listener, "opening").during(failing)


def test_an_error_of_the_listener_stops_the_step_and_comes_out_when_it_has_ended():
    stop, ended = np.zeros(1, np.int32), threading.Event()

    def cancel(*_told: object) -> None:
        raise InterruptedError

    def working() -> None:
        while not stop[0]:
            pass
        ended.set()

    with pytest.raises(InterruptedError):
        RepeatedProgress(cancel, "opening").during(working, stop)
    assert ended.is_set()


def test_what_another_thread_does_is_waited_for():
    told: list[int] = []
    running: Future[str] = Future()

    def report() -> None:
        told.append(1)
        if len(told) == 3:
            running.set_result("done")

    assert outcome_of(running, report) == "done"
    assert len(told) == 3


def test_a_meter_reports_work_of_unknown_amount_without_going_on():
    done: Future[None] = Future()
    told: Told = []

    def listen(stage: str, fraction: float) -> None:
        told.append((stage, fraction))
        if len(told) == 4:
            done.set_result(None)

    meter = Meter(listen, 8)
    meter.add("sorting", 2)
    meter.until("writing to the disk", done)
    assert told == [("sorting", 0.25), *[("writing to the disk", 0.25)] * 3]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_kernel_is_reported_before_it_begins_where_that_is_wanted(monkeypatch, at_once):
    monkeypatch.setattr(progress, "REPORT_S", LONG_S)
    told: list[str] = []
    reporting(partial(told.append, "work"), partial(told.append, "report"), at_once=at_once)
    assert told == (["report"] if at_once else []) + ["work"]
