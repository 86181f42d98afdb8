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


def _tolerance(claim: dict[str, Any]) -> str:
    bounds = [("≥", claim.get("at_least")), ("≤", claim.get("at_most"))]
    return " and ".join(f"{sign} {_number(bound)}" for sign, bound in bounds if bound is not None) or "true"


def _seeds(record: dict[str, Any] | None) -> str:
    """Median and range over the seeds, and for how many of them the claim held."""
    if record is None:
        return "not yet repeated"
    lower, upper = record["at_least"], record["at_most"]
    values = [value for value in record["values"] if value is not None]
    held = sum((lower is None or lower <= v) and (upper is None or v <= upper) for v in values)
    middle = _number(statistics.median(values))
    spread = f"{middle} ({_number(min(values))} to {_number(max(values))})" if values else "no value"
    return f"{spread}, {held} of {len(record['values'])} seeds"


def _cell(*content: nodes.Node) -> nodes.entry:
    return nodes.entry("", nodes.paragraph("", "", *content))


def _row(*cells: nodes.entry) -> nodes.row:
    return nodes.row("", *cells)


def _table(rows: list[nodes.row], heads: tuple[str, ...], widths: tuple[int, ...]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(heads))
    group += nodes.thead("", _row(*(_cell(nodes.Text(head)) for head in heads)))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["claims"])


def _claim_row(claim: dict[str, Any], address: str, seeds: dict[str, Any]) -> nodes.row:
    label = claim["label"]
    link = nodes.reference("", "", nodes.literal("", label), refuri=f"{address}#claim-{label}", internal=True)
    if "unchecked" in claim:
        return _row(
            _cell(link), _cell(nodes.Text(claim["unchecked"])), _cell(nodes.Text("not checked")), _cell(), _cell()
        )
    value = claim["value"]
    measured = _number(value) if not isinstance(value, bool) else ("true" if value else "false")
    repeated = _seeds(seeds.get(label)) if claim["random"] else "not random"
    texts = (claim["says"], measured, _tolerance(claim), repeated)
    return _row(_cell(link), *(_cell(nodes.Text(text)) for text in texts))


def _claims(app: Sphinx, docname: str) -> list[nodes.Node]:
    path = ROOT / "book" / "seeds.json"
    seeds = json.loads(path.read_text("utf8")) if path.exists() else {}
    tables: list[nodes.Node] = []
    checked = 0
    for name, notebook in chapters(app.env):
        claims = [data[CLAIM_MIME] for _, data in _outputs(notebook) if CLAIM_MIME in data]
        if not claims:
            continue
        checked += sum("unchecked" not in claim for claim in claims)
        address = app.builder.get_relative_uri(docname, name)
        known = seeds.get(name.removeprefix("book/"), {})
        rows = [_claim_row(claim, address, known) for claim in claims]
        title = app.env.titles[name].astext()
        heads = ("claim", "what is measured", "value", "must be", "ten seeds: median (range)")
        tables += [nodes.rubric("", title), _table(rows, heads, (3, 4, 2, 2, 4))]
    count = f"{checked} claims in {len(tables) // 2} chapters were checked when this page was built."
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
