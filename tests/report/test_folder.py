import csv
import io

import pytest
from msgspec import structs

from wattshed.errors import FileError
from wattshed.report.document import Section, Table
from wattshed.report.folder import to_csv, write_report


def test_it_writes_page_tables_figures_and_extras(document, tmp_path):
    written = write_report(
        document, tmp_path / "a" / "b", extra={"plan.json": "{}", "x.bin": b"\0"}
    )
    names = ["index.html", "savings.csv", "curve.svg", "curve.png", "regions.svg", "regions.png"]
    assert [p.name for p in written] == [*names, "plan.json", "x.bin"]
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == sorted(
        p.name for p in written
    )
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == b"\0"


def test_csv_reads_back_in_full_precision(table):
    header, *rows = csv.reader(io.StringIO(to_csv(table)))
    assert header == table.columns
    for read, row in zip(rows, table.rows, strict=True):
        for text, cell in zip(read, row, strict=True):
            if cell is None:
                assert text == ""
            else:
                assert (float(text) if isinstance(cell, float) else text) == cell


@pytest.mark.slow
def test_two_reports_are_the_same_bytes(document, tmp_path):
    first, second = (write_report(document, tmp_path / n) for n in ("1", "2"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("slug", ["savings", "SAVINGS", "../x", "", "a/b", ".hidden"])
def test_slugs_that_clash_or_name_no_file_are_refused(document, tmp_path, slug):
    more = Section("More", tables=[Table(slug, "", ["a"], [])])
    with pytest.raises(ValueError, match="slug"):
        write_report(
            structs.replace(document, sections=[*document.sections, more]), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_table_and_its_chart_may_share_a_slug(document, tmp_path):
    more = Section("More", tables=[Table("curve", "", ["a"], [])])
    shared = structs.replace(document, sections=[*document.sections, more])
    assert {"curve.csv", "curve.svg"} <= {p.name for p in write_report(shared, tmp_path)}


def test_two_charts_may_not_share_a_slug(document, tmp_path):
    doubled = structs.replace(document, sections=[document.sections[1]] * 2)
    with pytest.raises(ValueError, match="'regions': used by two charts"):
        write_report(doubled, tmp_path)


@pytest.mark.parametrize("name", ["index.html", "savings.csv", "../plan.json"])
def test_an_extra_may_not_replace_a_part(document, tmp_path, name):
    with pytest.raises(ValueError, match="extra file"):
        write_report(document, tmp_path, extra={name: ""})


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_one_clear_error(document, tmp_path, below):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(FileError, match="out"):
        write_report(document, tmp_path / "out" / below)
    assert (tmp_path / "out").read_text() == "kept"
