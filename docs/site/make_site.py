"""Builds the documentation site into build/site, strictly: a link that leads nowhere ends it. `make docs` runs this.

    python docs/site/make_site.py

The pages in docs/ are written to be read in the repository. They are laid out in build/pages, where links to files that
are no pages become links to the repository, and get the pages that code writes beside them: the notebook with what its
cells show, the commands with their help, and the Python reference.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reference import commands_page, python_page

ROOT = Path(__file__).resolve().parents[2]
DOCS, PAGES, SITE = ROOT / "docs", ROOT / "build" / "pages", ROOT / "build" / "site"
REPOSITORY = "https://github.com/dlir/SlicerDLIR/blob/main"
# Pages of the site that lie elsewhere in the repository, because that is where people look for them.
ELSEWHERE = ("CONTRIBUTING.md", "CHANGELOG.md")
NOTEBOOK = DOCS / "first-pair.ipynb"
_LINK = re.compile(r'(\]\(|src=")([^)"#\s]+)')


def main() -> None:
    lay_out(PAGES)
    run_notebook(NOTEBOOK, PAGES)
    (PAGES / "commands.md").write_text(commands_page(), encoding="utf-8")
    (PAGES / "api.md").write_text(python_page(), encoding="utf-8")
    build_site()
    print(f"site  {SITE / 'index.html'}")


def lay_out(pages: Path) -> None:
    """Every page and picture of docs/ in a fresh folder, with links that hold there."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for file in [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ELSEWHERE)]:
        text = indented(with_links(file.read_text(encoding="utf-8"), file.parent, pages))
        (pages / file.name).write_text(text, encoding="utf-8")


def with_links(text: str, folder: Path, pages: Path) -> str:
    """The text of a page in `folder` as it is to stand in `pages`: pictures are copied, files are in the repository."""

    def moved(link: re.Match[str]) -> str:
        before, target = link.groups()
        if "://" in target:
            return link[0]
        file = (folder / target).resolve()
        if not file.exists():
            raise SystemExit(f"a page in '{folder}' links to '{target}', which does not exist")
        if file.suffix == ".png":
            (pages / "pictures").mkdir(exist_ok=True)
            shutil.copy(file, pages / "pictures" / file.name)
            return f"{before}pictures/{file.name}"
        if file == NOTEBOOK:
            return f"{before}{NOTEBOOK.stem}.md"
        if (file.parent == DOCS and file.suffix == ".md") or file in [ROOT / name for name in ELSEWHERE]:
            return before + file.name
        return f"{before}{REPOSITORY}/{file.relative_to(ROOT).as_posix()}"

    return _LINK.sub(moved, text)


def indented(text: str) -> str:
    """With what belongs to the points of a numbered list set in by four spaces, where the repository asks for three."""
    lines, within = [], False
    for line in text.split("\n"):
        within = bool(re.match(r"\d+\. ", line)) or (within and (not line or line.startswith("   ")))
        lines.append(f" {line}" if within and line.startswith("   ") else line)
    return "\n".join(lines)


def run_notebook(notebook: Path, pages: Path) -> None:
    """Run it from its first cell to its last, and write it as a page with its pictures; an error in a cell ends it.

    It links to pages beside it only, which lie there in the site too.
    """
    options = ["--to", "markdown", "--execute", "--output-dir", str(pages), "--log-level", "WARN"]
    subprocess.run([sys.executable, "-m", "nbconvert", *options, str(notebook)], cwd=pages, check=True)


def build_site() -> None:
    """The pages as HTML. Ends this program where a link or an anchor leads nowhere."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(ROOT / "mkdocs.yml")]
    environment = {**os.environ, "NO_COLOR": "1"}
    if code := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
