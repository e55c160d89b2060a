"""Many kinds of training: the callback follows the right head with the right labels, or says why it does not."""

from pathlib import Path

import pytest
from kinds.page import ROOMS, page

ALL = [kind for room in ROOMS for kind in room.KINDS]


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_kind(kind):
    kind.check()


def test_titles():
    titles = {kind.title for kind in ALL}
    assert len(titles) == len(ALL) >= 40


def test_documentation():
    assert (Path(__file__).parents[2] / "docs" / "kinds.md").read_text(encoding="utf-8") == page()
