"""The book: what is told, what stands, and what a resumed run knows."""

import io

import numpy as np
import pytest
import torch
from alerts.streams import Stream, run

from le_callback.alerts import Alert, AlertBook, NonFinite, PairMerging, Rule, default_rules


def test_alert_returns_after_recovery_and_not_before():
    book, stream = AlertBook(), Stream()
    run(book, stream, 20)
    assert len(run(book, stream, 10, corrupt=0.7)) == 1
    assert run(book, stream, 40) == []
    assert len(run(book, stream, 10, corrupt=0.7)) == 1


@pytest.mark.parametrize("cut", [15, 22, 30])
def test_resumed_book_raises_what_the_uninterrupted_does(cut):
    kinds = [{}] * 20 + [{"mix": (0, 2)}] * 15
    stream = Stream()
    records = [stream.window(**kind) for kind in kinds]
    whole = AlertBook()
    expected = [whole.add(r) for r in records]
    first, second = AlertBook(), AlertBook()
    for r in records[:cut]:
        first.add(r)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second.add(r) for r in records[cut:]] == expected[cut:]
    assert sum(map(len, expected)) == 1


def test_a_failing_user_rule_is_noted_and_stops_nothing():
    def broken(record):
        raise KeyError("x")

    book = AlertBook([broken, NonFinite()])
    stream = Stream()
    assert [a.rule for _ in range(3) for a in book.add(stream.window(nan=True))] == ["NonFinite"]
    assert book.failures == {"broken": "KeyError: 'x'"}


def test_user_rule_is_raised_again_after_it_was_over():
    def many(record):
        return Alert("many", record.step, (), "many.", "fewer.", 1, 0, 0.0) if record.step % 500 <= 50 else None

    assert [a.step for a in run(AlertBook([many], rearm=5), Stream(samples=10), 30)] == [50, 500, 1000, 1500]


def alert_of(record, *classes):
    return Alert("Odd", record.step, classes, "Odd.", "Look.", 1.0, 0.0, 0.0)


class Counting(Rule[list]):
    """Counts windows in a plain value and speaks of more and more classes."""

    name = "Counting"

    def __call__(self, record, state):
        state = [(state or [0])[0] + 1]
        return state, alert_of(record, *range(state[0]))


class Telling(Counting):
    name = "Telling"
    tells_new_classes = True


def test_classes_that_join_are_told_only_by_rules_that_say_so():
    book, stream = AlertBook([Counting(), Telling()]), Stream(samples=10)
    raised = [len(book.add(stream.window())) for _ in range(3)]
    assert raised == [2, 1, 1]
    assert book.standing["Counting"].classes == book.standing["Telling"].classes == (0, 1, 2)


def test_whether_new_classes_are_told_does_not_hang_on_the_name():
    stream, books = Stream(), [AlertBook([PairMerging()]), AlertBook([PairMerging(name="Mine")])]
    kinds = [{}] * 20 + [{"mix": (0, 1)}] * 15 + [{"mix": (2, 3)}] * 15
    records = [stream.window(**kind) for kind in kinds]
    told = [[a.classes for r in records for a in book.add(r)] for book in books]
    assert told[0] == told[1] == [(0, 1), (2, 3)]


def test_an_alert_without_classes_is_told_once_whatever_joins():
    class Late(Telling):
        def __call__(self, record, state):
            state = [(state or [0])[0] + 1]
            return state, alert_of(record, *range(state[0] - 1))

    book, stream = AlertBook([Late()]), Stream(samples=10)
    assert [len(book.add(stream.window())) for _ in range(3)] == [1, 0, 1]


def test_an_alert_that_another_explains_is_not_told_and_does_not_stand():
    class Explained(Counting):
        name, explained_by = "Explained", ("Counting",)

    book, stream = AlertBook([Counting(), Explained()]), Stream(samples=10)
    assert len(run(book, stream, 3)) == 1
    assert set(book.standing) == {"Counting"}


@pytest.mark.parametrize("rearm", [1, 3])
def test_a_rule_speaks_again_after_as_many_quiet_windows(rearm):
    speaks = iter([True, *[False] * (rearm - 1), True, *[False] * rearm, True])

    def rule(record):
        return alert_of(record) if next(speaks) else None

    book = AlertBook([rule], rearm=rearm)
    first, *rest, last = [len(run(book, Stream(samples=10), 1)) for _ in range(2 * rearm + 2)]
    assert first == last == 1
    assert sum(rest) == 0


def test_a_failing_rule_with_a_state_is_noted_and_keeps_its_state():
    class Breaking(Counting):
        def __call__(self, record, state):
            if state == [2]:
                raise RuntimeError("no more")
            return super().__call__(record, state)

    book, stream = AlertBook([Breaking()]), Stream(samples=10)
    for _ in range(5):
        book.add(stream.window())
    assert book.failures == {"Counting": "RuntimeError: no more"}
    assert book.state_dict()["states"] == {"Counting": [2]}


def test_a_rule_without_a_name_goes_by_its_class():
    class Nameless(Rule[None]):
        def __call__(self, record, state):
            return None, alert_of(record)

    book = AlertBook([Nameless()])
    run(book, Stream(samples=10), 1)
    assert set(book.standing) == {"Nameless"}


@pytest.mark.parametrize("rule", [3, "NonFinite", NonFinite])
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(TypeError, match="Expected argument `rules` to be made of callables .* but got .*"):
        AlertBook([rule])


def test_two_rules_with_a_state_need_two_names():
    with pytest.raises(ValueError, match="`rules` to be of different names, but got .*another `name`"):
        AlertBook([*default_rules(), PairMerging(drop=0.3)])
    assert len(AlertBook([*default_rules(), PairMerging(drop=0.3, name="Third")]).rules) == 10


def test_functions_of_one_name_stand_apart():
    def rules():
        return [lambda record: alert_of(record, 1), lambda record: None, lambda record: alert_of(record, 2)]

    book = AlertBook(rules())
    assert book.names == ("<lambda>", "<lambda>_2", "<lambda>_3")
    assert len(run(book, Stream(samples=10), 1)) == 2
    assert set(book.standing) == {"<lambda>", "<lambda>_3"}


def test_the_end_of_an_alert_is_told_once_with_its_beginning():
    book, stream, ended = AlertBook(), Stream(), []
    run(book, stream, 20)
    (alert,) = run(book, stream, 60, mix=(1, 3))
    for _ in range(10):
        book.add(stream.window())
        ended += book.ended
    assert [(e.rule, e.classes, e.since) for e in ended] == [("PairMerging", (1, 3), alert.step)]
    assert ended[0].step <= 80 * 50 + 6 * 50  # within six windows, after a fault of sixty
    assert [a.classes for a in run(book, stream, 6, mix=(0, 2))] == [(0, 2)]


def test_an_alert_of_some_classes_explains_only_those():
    class Explained(Rule[None]):
        name, explained_by = "Explained", ("about",)

        def __init__(self, *classes):
            self.classes = classes

        def __call__(self, record, state):
            return None, alert_of(record, *self.classes)

    def about(record):
        return alert_of(record, 1, 2)

    for classes, told in (((1,), 1), ((1, 2), 1), ((1, 3), 2), ((), 2)):
        assert len(run(AlertBook([about, Explained(*classes)]), Stream(samples=10), 1)) == told


def test_states_stay_as_large_as_they_are():
    """Of 200 windows with faults that come and go, and of the 100 before."""
    stream, book, sizes = Stream(samples=40), AlertBook(), []
    for i in range(200):
        book.add(stream.window(corrupt=0.7 * (i % 40 > 30)))
        file = io.BytesIO()
        torch.save(book.state_dict(), file)
        sizes.append(file.tell())
    assert max(sizes[100:]) <= 1.02 * max(sizes[:100])


def test_rearm_is_at_least_one_window():
    with pytest.raises(ValueError, match="`rearm` to be at least 1 window, but got 0"):
        AlertBook(rearm=0)


def test_states_of_another_layout_or_rule_are_left_out():
    """As saved by a version that kept lists where there are records now."""
    book, stream = AlertBook(), Stream()
    run(book, stream, 8)
    saved = book.state_dict()
    saved["states"]["PairMerging"]["features"] = [torch.zeros(5, 5, dtype=torch.float64)] * 3
    del saved["states"]["FeatureCollapse"]["traces"]
    saved["states"]["Gone"] = {"count": 1}
    saved["standing"] = {"Gone": [[1], 0, 50], "NonFinite": [[], 2, 50]}
    resumed = AlertBook()
    resumed.load_state_dict(saved)
    assert set(resumed.state_dict()["states"]) == {
        "NonFinite", "LoaderStuck", "ClassVanished", "LabelsChanged", "SeparabilityLost", "ElasticityLost",
        "ScaleChanged",
    }  # fmt: skip
    assert set(resumed.standing) == {"NonFinite"}
    assert run(resumed, stream, 10) == []


def test_every_state_survives_saving_to_the_last_digit():
    stream, book = Stream(), AlertBook()
    run(book, stream, 12, corrupt=0.1)
    file = io.BytesIO()
    torch.save(book.state_dict(), file)
    file.seek(0)
    resumed = AlertBook()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert len(book._states) == 9
    with np.printoptions(floatmode="unique"):
        assert repr(resumed._states) == repr(book._states)
