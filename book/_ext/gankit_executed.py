"""What pages show of the executed chapters: the table of claims, and the picture of the landing page.

Both are read from the cache that the build executes into, so they are never older than the chapters.
"""

import base64
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from gankit_cache import ROOT, cache_path
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

CLAIM_MIME = "application/vnd.gankit.claim+json"
PAGES = ("book/claims", "book/index")
log = logging.getLogger(__name__)


def chapters(env: BuildEnvironment) -> Iterator[tuple[str, Any]]:
    """The names and executed notebooks of the chapters, in the order of the book."""
    kept = get_cache(str(cache_path()))
    for name in _order(env):
        source = Path(env.srcdir, f"{name}.ipynb")
        if source.exists():
            try:
                record = kept.match_cache_notebook(nbformat.read(source, 4))
            except KeyError:
                log.warning("%s was not executed: its claims are missing", name, type="gankit", subtype="claims")
                continue
            yield name, kept.get_cache_bundle(record.pk).nb


def _order(env: BuildEnvironment) -> Iterator[str]:
    for line in Path(env.srcdir, "_toc.yml").read_text("utf8").splitlines():
        if match := re.match(r"\s*- file: (\S+)", line):
            yield match[1]


def _outputs(notebook: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield cell, output.get("data", {})


class ClaimsTable(nodes.General, nodes.Element):
    """Stands for the table until all chapters have been executed."""


class LandingPicture(nodes.General, nodes.Element):
    """Stands for the picture that a chapter's cell tagged ``landing-picture`` draws."""


class ClaimsDirective(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [ClaimsTable()]


class LandingPictureDirective(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [LandingPicture()]


def _number(value: float) -> str:
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def tolerance(claim: dict[str, Any]) -> str:
    """What a value has to be."""
    lower, upper = claim["at_least"], claim["at_most"]
    if lower is not None and lower == upper:
        return _number(lower)
    bounds = (("≥", lower), ("≤", upper))
    return ", ".join(f"{sign} {_number(bound)}" for sign, bound in bounds if bound is not None) or "true"


def _holds(value: float | bool, lower: float | None, upper: float | None) -> bool:
    if isinstance(value, bool):
        return value
    return (lower is None or lower <= value) and (upper is None or value <= upper)


def seeds_line(record: dict[str, Any] | None) -> str:
    """For how many seeds a random claim held, the median of its value and the range."""
    if record is None:
        return "Not yet repeated with other seeds."
    values = [value for value in record["values"] if value is not None]
    held = sum(_holds(value, record["at_least"], record["at_most"]) for value in values)
    line = f"Holds for {held} of {len(record['values'])} seeds"
    if not values or isinstance(values[0], bool):
        return f"{line}."
    if min(values) == max(values):
        return f"{line}: {_number(values[0])} for each of them."
    return f"{line}: median {_number(statistics.median(values))}, {_number(min(values))} to {_number(max(values))}."


def _cell(*paragraphs: str | nodes.Node) -> nodes.entry:
    content = [nodes.Text(part) if isinstance(part, str) else part for part in paragraphs]
    return nodes.entry("", *(nodes.paragraph("", "", part) for part in content))


def _table(rows: list[nodes.row]) -> nodes.table:
    heads, widths = ("claim", "what is measured", "value", "must be"), (4, 6, 2, 2)
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(heads))
    group += nodes.thead("", nodes.row("", *map(_cell, heads)))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["claims"])


def _claim_row(claim: dict[str, Any], address: str, seeds: dict[str, Any]) -> nodes.row:
    label = claim["label"]
    link = nodes.reference("", "", nodes.literal("", label), refuri=f"{address}#claim-{label}", internal=True)
    if "unchecked" in claim:
        return nodes.row("", _cell(link), _cell(claim["unchecked"]), _cell("not checked"), _cell())
    value = claim["value"]
    shown = ("true" if value else "false") if isinstance(value, bool) else _number(value)
    words = [claim["says"]] if claim["says"] else []
    repeated = [seeds_line(seeds.get(label))] if claim["random"] else []
    return nodes.row("", _cell(link), _cell(*words, *repeated), _cell(shown), _cell(tolerance(claim)))


def _claims(app: Sphinx, docname: str) -> list[nodes.Node]:
    path = ROOT / "book" / "seeds.json"
    seeds = json.loads(path.read_text("utf8")) if path.exists() else {}
    tables: list[nodes.Node] = []
    found: list[dict[str, Any]] = []
    for name, notebook in chapters(app.env):
        claims = [data[CLAIM_MIME] for _, data in _outputs(notebook) if CLAIM_MIME in data]
        if not claims:
            continue
        found += claims
        address = app.builder.get_relative_uri(docname, name)
        known = seeds.get(name.removeprefix("book/"), {})
        tables.append(nodes.rubric("", app.env.titles[name].astext()))
        tables.append(_table([_claim_row(claim, address, known) for claim in claims]))
    left = sum("unchecked" in claim for claim in found)
    count = f"{len(found) - left} claims in {len(tables) // 2} chapters were checked when this page was built."
    if left:
        count += f" {left} more cannot be checked by a computation, and say why."
    return [nodes.paragraph("", "", nodes.strong("", count)), *tables]


def _picture(app: Sphinx) -> list[nodes.Node]:
    for name, notebook in chapters(app.env):
        for cell, data in _outputs(notebook):
            if "landing-picture" not in cell.metadata.get("tags", []):
                continue
            image = re.search(
                r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"', "".join(data.get("text/html", ""))
            )
            if image:
                target = Path(app.outdir, "_static", "landing.png")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(base64.b64decode(image[1]))
                address = app.builder.get_relative_uri("book/index", name)
                markup = f'<a href="{address}"><img class="landing" src="../_static/landing.png" alt="{image[2]}"></a>'
                return [nodes.raw("", markup, format="html")]
    return []


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname not in PAGES:
        return
    for claims in list(doctree.findall(ClaimsTable)):
        claims.replace_self(_claims(app, docname))
    for picture in list(doctree.findall(LandingPicture)):
        picture.replace_self(_picture(app))


def _rewrite_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """These pages depend on the chapters' outputs, which Sphinx does not see: write them again each time."""
    return [page for page in PAGES if page in env.found_docs]


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(ClaimsTable)
    app.add_node(LandingPicture)
    app.add_directive("claims", ClaimsDirective)
    app.add_directive("landing-picture", LandingPictureDirective)
    app.connect("doctree-resolved", _resolve)
    app.connect("env-updated", _rewrite_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
