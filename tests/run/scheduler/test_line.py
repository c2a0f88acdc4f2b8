"""Turns are fair: the fewest running leases first, then the longest without a turn; nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catena.run.scheduler.line import Line, Waiter

CALLERS = st.sampled_from("abcd")
# ("join", caller), ("take", slots free or not), ("stop", which running), ("leave", which waiting)
STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "join", "take", "stop", "leave"]), CALLERS, st.integers(0, 63)), max_size=120
)


class Model:
    """What a line should be: written down plainly, checked after every step."""

    def __init__(self) -> None:
        self.line = Line()
        self.waiting: list[Waiter] = []
        self.running: list[str] = []
        self.now_s = 0.0

    def count(self, caller: str) -> int:
        return self.running.count(caller)

    def step(self, kind: str, caller: str, number: int, slots: int) -> Waiter | None:
        self.now_s += 1
        if kind == "join":
            waiter = Waiter(caller, self.now_s)
            self.line.join(waiter)
            self.waiting.append(waiter)
        elif kind == "take" and len(self.running) < slots:
            taken = self.line.take()
            assert (taken is None) == (not self.waiting)
            if taken is not None:
                self.waiting.remove(taken)
                self.running.append(taken.caller)
            return taken
        elif kind == "stop" and self.running:
            self.line.stop(self.running.pop(number % len(self.running)))
        elif kind == "leave" and self.waiting:
            self.line.leave(self.waiting.pop(number % len(self.waiting)))
        return None


@given(STEPS, st.integers(1, 4))
def test_whoever_is_let_in_had_the_fewest_leases_running_of_all_who_wait(steps: list, slots: int) -> None:
    model = Model()
    for kind, caller, number in steps:
        before = {one.caller: model.count(one.caller) for one in model.waiting}
        taken = model.step(kind, caller, number, slots)
        if taken is not None:
            assert before[taken.caller] == min(before.values())
            mine = [one for one in model.waiting if one.caller == taken.caller]
            assert all(taken.since_s < one.since_s for one in mine), "within a caller, first come, first served"
        assert len(model.line) == len(model.waiting)
        assert model.line.oldest_s() == min((one.since_s for one in model.waiting), default=None)


@given(STEPS)
def test_with_one_slot_nobody_gets_a_second_turn_before_everybody_who_waits_had_one(steps: list) -> None:
    model = Model()
    overtaken: dict[str, list[str]] = {}  # caller who waits without a break → whom it saw let in since its last turn
    for kind, caller, number in steps:
        taken = model.step(kind, caller, number, 1)
        here = {one.caller for one in model.waiting}
        overtaken = {name: overtaken.get(name, []) for name in here}
        if taken is not None:
            overtaken.pop(taken.caller, None)
            if taken.caller in here:
                overtaken[taken.caller] = []
            for name, seen in overtaken.items():
                if name != taken.caller:
                    assert taken.caller not in seen, f"{taken.caller} had two turns while {name} waited"
                    seen.append(taken.caller)


def test_a_hundred_requests_of_one_caller_do_not_hold_up_the_one_of_another() -> None:
    line = Line()
    for number in range(100):
        line.join(Waiter("many", number))
    line.join(Waiter("one", 100))
    first, second = line.take(), line.take()
    assert first is not None
    assert second is not None
    assert (first.caller, second.caller) == ("many", "one")


def test_only_those_who_came_in_time_are_let_in_before_a_moment() -> None:
    line = Line()
    for caller, since_s in (("a", 5.0), ("b", 1.0), ("a", 6.0)):
        line.join(Waiter(caller, since_s))
    taken = line.take(before_s=2.0)
    assert taken is not None
    assert taken.caller == "b"
    assert line.take(before_s=2.0) is None
    assert len(line) == 2
