"""The tables of the documentation are those of the registry."""

from pathlib import Path

import pytest

from le_callback.report.reference import main, tag_table, with_tables
from le_callback.report.tags import LEVELS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("level", LEVELS)
def test_tables_are_up_to_date(level):
    text = (ROOT / "docs" / "tags.md").read_text()
    assert f"<!-- tags: {level} -->" in text
    assert with_tables(text) == text, "make tables renews them"


def test_only_what_is_between_the_marks_is_renewed(tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- tags: all -->\nold\n<!-- end of tags -->\nafter\n")
    assert main([str(path), "--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert main([str(path)]) == 0
    assert path.read_text() == f"before\n<!-- tags: all -->\n{tag_table('all')}<!-- end of tags -->\nafter\n"
    assert main([str(path), "--check"]) == 0


def test_levels():
    assert "`le/<model>/gamma` with `_low`, `_high` (`I_logits`, `I_probe_logits`)" in tag_table("essential")
    assert "amplitude_common" not in tag_table("essential")
    row = next(line for line in tag_table("all").splitlines() if "nearest_mean_accuracy" in line)
    assert [cell.strip() for cell in row.split("|")[-3:]] == ["higher", "yes", ""]
    row = next(line for line in tag_table("all").splitlines() if "`le/<model>/gamma`" in line)
    assert [cell.strip() for cell in row.split("|")[2:3] + row.split("|")[-3:]] == [
        "per step", "higher", "I_logits, I_probe_logits", "",
    ]  # fmt: skip
