"""Words of an alert: names of classes go where the placeholder is, and nowhere else."""

import math

import pytest

from le_callback.alerts import Alert, describe
from le_callback.alerts.alert import joined

NAMES = ["cat", "dog", "owl", "2 and 3"]


def alert(classes, cause="Classes {classes} meet.", advice="Look."):
    return Alert("Rule", 1200, tuple(classes), cause, advice, 1.0, 0.0, math.nan)


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((0,), "Rule at step 1,200 (cat): Classes cat meet. Look."),
        ((2, 0), "Rule at step 1,200 (owl, cat): Classes owl and cat meet. Look."),
        ((0, 1, 2), "Rule at step 1,200 (cat, dog, owl): Classes cat, dog and owl meet. Look."),
        ((3, 4), "Rule at step 1,200 (2 and 3, 4): Classes 2 and 3 and 4 meet. Look."),
        ((), "Rule at step 1,200: Classes all classes meet. Look."),
    ],
)
def test_names_are_filled_in(classes, text):
    assert describe(alert(classes), NAMES) == text


def test_numbers_and_other_braces_stay_as_they_are():
    cause, advice = "classes 0 and 1 in {} {0} {x!r} {{classes}} {", "{classes}: 100 % } sure"
    expected = "Rule at step 1,200 (cat): classes 0 and 1 in {} {0} {x!r} {cat} { cat: 100 % } sure"
    assert describe(alert((0,), cause, advice), NAMES) == expected


def test_a_name_is_not_searched_for_placeholders():
    assert describe(alert((0, 1)), ["{classes}", "b"]).endswith("Classes {classes} and b meet. Look.")


def test_classes_without_a_name_go_by_their_index():
    assert describe(alert((0, 7)), ["cat"]).startswith("Rule at step 1,200 (cat, 7): Classes cat and 7")
    assert describe(alert((0, 7))).startswith("Rule at step 1,200 (0, 7): Classes 0 and 7")


def test_at_most_eight_names():
    assert joined(list("abcdefgh")) == "a, b, c, d, e, f, g and h"
    assert joined(list("abcdefghi")) == "a, b, c, d, e, f, g, h and 1 more"
    text = describe(alert(range(20)))
    assert "(0, 1, 2, 3, 4, 5, 6, 7 and 12 more): Classes 0, 1, 2, 3, 4, 5, 6, 7 and 12 more meet." in text
