import re
from html.parser import HTMLParser

import pytest
from msgspec import structs

from wattshed.report.document import Table
from wattshed.report.html import link_addresses, render_html

VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Open elements, their attributes, and the text of each."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html):
    page = Page()
    page.feed(html)
    page.close()
    return page


@pytest.fixture
def page(document):
    return parse(render_html(document))


def test_the_page_is_balanced(page):
    assert page.open == []


def test_nothing_is_fetched(document, page):
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "img"}
        assert "src" not in attributes
        if tag != "a":
            for name in ("href", "xlink:href"):
                assert not re.match(r"(https?:)?//", attributes.get(name, ""))
    assert "@import" not in render_html(document)


def test_ids_are_unique_and_hold_every_slug(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"table-savings", "figure-curve", "figure-regions"} <= set(ids)


def test_inner_links_lead_somewhere(page):
    ids = {a["id"] for _, a in page.elements if "id" in a}
    inner = [a["href"][1:] for t, a in page.elements if t == "a" and a["href"].startswith("#")]
    assert inner
    assert set(inner) <= ids


def test_text_is_escaped_and_readable(page):
    text = "".join(page.text)
    assert "Text <script>alert(1)</script>." in text
    assert "Savings <b>by</b> policy" in text
    assert "wattshed plan --fleet 'a<b'" in text


def test_numbers_captions_sources_and_origin(page):
    text = " ".join("".join(page.text).split())
    for part in ("Table 1.", "Figure 1.", "Figure 2.", "5.589", "51,924", "–", "No queueing."):
        assert part in text
    for part in (
        "Paper: https://example.org/paper",
        "abc123",
        "CC BY 4.0",
        "measured",
        "wattshed 0.0.0",
    ):
        assert part in text
    assert "Seed7" in text.replace(" ", "")


def test_figures_and_tables_are_accessible(page):
    pictures = [a for t, a in page.elements if t == "svg"]
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert len(pictures) == 2
    headings = [a for t, a in page.elements if t == "th"]
    assert all(a.get("scope") in {"col", "row"} for a in headings)


def test_files_are_linked_only_beside_a_folder(document):
    assert 'href="savings.csv"' not in render_html(document)
    linked = render_html(document, linked=True)
    assert all(f'href="{n}"' in linked for n in ("savings.csv", "curve.svg", "curve.png"))


def test_a_bare_document_renders(document):
    bare = structs.replace(document, abstract="", sections=[], sources=[], command="", seed=None)
    page = parse(render_html(bare))
    assert page.open == []
    assert "Seed" not in "".join(page.text)


def test_an_empty_table_renders(document):
    section = structs.replace(document.sections[0], tables=[Table("t", "Empty", ["a"], [])])
    assert "Empty" in render_html(structs.replace(document, sections=[section]))


def test_the_page_is_the_same_each_time(document):
    assert render_html(document) == render_html(document)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b", "a &lt; b"),
        ("see https://e.org/a?b=1&c=2.", 'href="https://e.org/a?b=1&amp;c=2"'),
        ('https://e.org/"onmouseover="x', 'href="https://e.org/"'),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_addresses_become_links_and_the_rest_is_escaped(text, html):
    assert html in link_addresses(text)
