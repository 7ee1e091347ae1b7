"""A page of HTML that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

# The browser itself is told to load nothing: only what the page carries is shown.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Liberation Sans", sans-serif; color: #1b1b1b; margin: 0 auto; max-width: 1180px;
       padding: 24px 28px 60px; background: #fff; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 40px 0 8px; border-bottom: 1px solid #ddd; padding-bottom: 4px; }
p { max-width: 78ch; margin: 8px 0; }
.lead { color: #555; margin-bottom: 18px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { font-weight: 600; border-bottom: 1px solid #999; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td:last-child { white-space: normal; overflow-wrap: anywhere; }
figure { margin: 18px 0 28px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; color: #444; max-width: 95ch; margin-top: 6px; }
.problem { background: #fff5e5; border-left: 4px solid #e69f00; padding: 6px 14px; }
nav { font-size: 13px; margin: 10px 0; }
nav a { margin-right: 14px; color: #0072b2; }
"""


@dataclass
class Page:
    """Collects sections and gives the page. Every text is escaped here."""

    title: str
    lead: str
    _parts: list[str] = field(default_factory=list)
    _contents: list[str] = field(default_factory=list)

    def section(self, title: str, text: str = "") -> None:
        """A heading, and a paragraph below it."""
        self._contents.append(title)
        self._parts.append(f'<h2 id="s{len(self._contents)}">{escape(title)}</h2>')
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(self, rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
        """A table, head first. words: the last column holds text, which is broken into lines, and not numbers."""
        head, *body = rows
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
        kind = ' class="words"' if words else ""
        self._parts.append(
            f'<div class="scroll"><table{kind}><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'
        )

    def figure(self, uri: str, caption: str) -> None:
        """An image given as a data URI, and what it shows."""
        alt = escape(caption, quote=True)
        self._parts.append(f'<figure><img src="{uri}" alt="{alt}"><figcaption>{escape(caption)}</figcaption></figure>')

    def problems(self, messages: Sequence[str]) -> None:
        """A box of what went wrong, if anything did."""
        if not messages:
            return
        items = "".join(f"<li>{escape(message)}</li>" for message in messages)
        self._parts.append(f'<div class="problem"><ul>{items}</ul></div>')

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, title in enumerate(self._contents, 1))
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_CSS}</style></head><body>"
            f'<h1>{escape(self.title)}</h1><p class="lead">{escape(self.lead)}</p><nav>{links}</nav>\n'
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )
