"""The page itself: nothing from outside, nothing unescaped."""

from __future__ import annotations

from html.parser import HTMLParser

from dlir.io.page import Page

PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Reader(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def make_page() -> Page:
    page = Page("A < B & C", 'made of "quotes"')
    page.section("First", "words <script>alert(1)</script>")
    page.table([["method", "Dice"], ["<b>", "0.9 ± 0.1"]])
    page.figure(PIXEL, 'it\'s "n = 4" & <more>')
    page.problems(["pair <1>: lost"])
    page.problems([])
    return page


def test_every_tag_is_closed_and_every_text_escaped() -> None:
    reader = Reader(make_page().html())
    assert reader.open == []
    assert not [tag for tag, _ in reader.tags if tag in ("script", "b", "more")]
    for text in ("A < B & C", "words <script>alert(1)</script>", "<b>", "0.9 ± 0.1", "pair <1>: lost"):
        assert text in reader.text
    (image,) = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert image["src"] == PIXEL
    assert image["alt"] == 'it\'s "n = 4" & <more>'


def test_a_column_of_words_is_broken_into_lines() -> None:
    page = make_page()
    page.table([["method", "settings"], ["A", "x" * 500]], words=True)
    tables = [attributes.get("class") for tag, attributes in Reader(page.html()).tags if tag == "table"]
    assert tables == [None, "words"]


def test_links_lead_to_sections_of_the_page() -> None:
    reader = Reader(make_page().html())
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    ids = [f"#{attributes['id']}" for _, attributes in reader.tags if "id" in attributes]
    assert links == ids == ["#s1"]


def test_the_browser_is_told_to_load_nothing() -> None:
    reader = Reader(make_page().html())
    (policy,) = [a["content"] for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "http" not in make_page().html().replace("http-equiv", "")
