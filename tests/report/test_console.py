import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wattshed.report.console import fit_widths, print_document, print_table, wrap
from wattshed.report.document import Table
from wattshed.report.text import format_rows


def printed(show, item, width, terminal):
    file = io.StringIO()
    colours = "standard" if terminal else None
    show(item, Console(file=file, width=width, force_terminal=terminal, color_system=colours))
    return file.getvalue()


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_pipe_gets_every_row_on_one_line_without_colour(table, width):
    text = printed(print_table, table, width, terminal=False)
    assert "\x1b" not in text
    for row in format_rows(table):
        assert any(all(cell in line for cell in row) for line in text.splitlines())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_a_terminal_shows_all_of_every_cell(table, width):
    text = plain(printed(print_table, table, width, terminal=True))
    assert max(map(len, text.splitlines())) <= width
    for row in format_rows(table):
        for cell in row:
            assert all(word in text for word in cell.split())


def test_numbers_are_right_aligned_and_highlights_bold(table):
    text = printed(print_table, table, 120, terminal=True)
    ends = [
        plain(line).find(n) + len(n)
        for line in text.splitlines()
        for n in ("5.589", "51,924")
        if n in line
    ]
    assert len(set(ends)) == 1
    assert any("\x1b[1m" in line and "this plan" in line for line in text.splitlines())


def test_square_brackets_are_no_markup(table):
    assert "[bold]markup[/bold]" in printed(print_table, table, 100, terminal=True)


def test_a_document_prints_all_its_words(document):
    text = " ".join(printed(print_document, document, 80, terminal=False).split())
    for part in ("Plan for <alpaca>", "A & B.", "First", "Second", "Figure curve", "Interval <0>"):
        assert part in text


def test_the_console_keeps_its_width(table):
    console = Console(file=io.StringIO(), width=60)
    print_table(table, console)
    assert console.width == 60


def test_a_table_without_rows_prints_its_heading():
    assert "column" in printed(print_table, Table("t", "T", ["column"], []), 80, terminal=False)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 60)), min_size=1), st.integers(1, 200))
def test_widths_fit_and_keep_the_longest_word(columns, room):
    narrow = [low for low, _ in columns]
    widths = fit_widths(narrow, [low + more for low, more in columns], room)
    if widths is None:
        assert sum(narrow) > room
    else:
        assert sum(widths) <= room
        assert all(w >= low for w, low in zip(widths, narrow, strict=True))


@given(st.text("ab/ -", max_size=40), st.integers(1, 20))
def test_wrapping_loses_nothing_but_spaces(text, width):
    assert re.sub(r"\s", "", wrap(text, width)) == re.sub(r"\s", "", text)
