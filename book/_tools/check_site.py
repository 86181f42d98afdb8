"""Check the built site without a network: links, anchors, ids, alternatives to pictures, no foreign loads.

python book/_tools/check_site.py _build/html
"""

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
LOADING_RELATIONS = {"stylesheet", "preload", "icon", "modulepreload", "shortcut icon"}


@dataclass
class Page(HTMLParser):
    """The ids of a page, where its links lead, what it loads, and its pictures without words."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        address = attributes.get(LOADING.get(tag, ""), "")
        if address and (tag != "link" or attributes.get("rel") in LOADING_RELATIONS):
            self.loads.append(address)
        if tag == "img" and "alt" not in attributes:
            self.wordless.append(address[:60])


def read(root: Path) -> dict[Path, Page]:
    """All pages below ``root``, parsed."""
    pages = {}
    for path in sorted(root.rglob("*.html")):
        if "_static" not in path.parts:
            pages[path.resolve()] = page = Page()
            page.feed(path.read_text("utf8"))
    return pages


def target(root: Path, page: Path, address: str) -> Path:
    """The file that an address on a page means; 404.html uses absolute ones, below the site's own folder."""
    path = unquote(address.split("?")[0])
    if path.startswith("/"):
        found = root / path.lstrip("/").partition("/")[2]
    else:
        found = (page.parent / path).resolve() if path else page
    return found / "index.html" if found.is_dir() else found


def problems(root: Path) -> list[str]:
    """What is wrong with the site, a line each."""
    root, pages, found = root.resolve(), read(root), []
    if not pages:
        return [f"{root}: no pages"]
    for path, page in pages.items():
        where = path.relative_to(root)
        found += [f"{where}: id {i!r} used {page.ids.count(i)} times" for i in set(page.ids) if page.ids.count(i) > 1]
        found += [f"{where}: picture without alt: {picture}" for picture in page.wordless]
        found += [f"{where}: loads from elsewhere: {a}" for a in page.loads if urlsplit(a).netloc]
        for address in {*page.links, *page.loads}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            file, anchor = urldefrag(address)
            leads_to = target(root, path, file)
            if not leads_to.exists():
                found.append(f"{where}: no such file: {address}")
            elif anchor and leads_to in pages and unquote(anchor) not in pages[leads_to].ids:
                found.append(f"{where}: no such anchor: {address}")
    return sorted(found)


def main() -> int:
    root = Path(sys.argv[1])
    found = problems(root)
    for problem in found:
        print(problem)
    print(f"{len(read(root))} pages checked: {len(found) or 'no'} problem{'s' * (len(found) != 1)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
