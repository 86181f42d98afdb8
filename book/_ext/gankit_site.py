"""Repairs of what the theme and the extensions get wrong, each with its reason."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def _repair_codeautolink() -> None:
    # sphinx-proof and sphinx-exercise put their body into a section without a title; sphinx-codeautolink 0.19
    # takes one title off its stack for each section and dies on these.
    from sphinx_codeautolink.extension.block import CodeBlockAnalyser

    def has_title(node: nodes.section) -> bool:
        return bool(node.children) and isinstance(node.children[0], nodes.title)

    def visit_section(self: Any, node: nodes.section) -> None:
        if has_title(node):
            self.current_refid = node["ids"][0]

    def depart_section(self: Any, node: nodes.section) -> None:
        if has_title(node):
            self.title_stack.pop()

    CodeBlockAnalyser.visit_section, CodeBlockAnalyser.depart_section = visit_section, depart_section


def _repair_proof_links() -> None:
    # sphinx-proof 0.4: a Markdown link [text](#label) to one of its boxes is never resolved.
    from sphinx_proof.domain import ProofDomain

    def resolve_any_xref(
        self: Any,
        env: BuildEnvironment,
        source: str,
        builder: Any,
        target: str,
        node: nodes.Element,
        text: nodes.Element,
    ) -> list[tuple[str, nodes.Element]]:
        box = getattr(env, "proof_list", {}).get(target)
        return [] if box is None else [("prf:ref", make_refnode(builder, source, box["docname"], target, text))]

    ProofDomain.resolve_any_xref = resolve_any_xref


def _drop_repeated_ids(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    # sphinx-proof and sphinx-exercise give every body of a box the same id, and every proof that has no label.
    for section in doctree.findall(nodes.section):
        if section["ids"] in (["proof-content"], ["exercise-content"], ["solution-content"]):
            section["ids"] = []
    for box in doctree.findall(nodes.Element):
        if box["ids"] == ["proof"] and not isinstance(box, nodes.section):
            box["ids"] = []


def _every_id_is_a_target(app: Sphinx, doctree: nodes.document) -> None:
    # MyST resolves [text](other.ipynb#label) to headings only; boxes, formulas and claims are targets as well.
    targets = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(nodes.Element):
        names = [*node["ids"]] if not isinstance(node, nodes.raw) else re.findall(r'id="(claim-[\w-]+)"', node.astext())
        for name in names:
            targets.setdefault(name, (node.line or 0, name, name))
            targets.setdefault(name.removeprefix("equation-"), (node.line or 0, name, name))


def _name_solutions(app: Sphinx, doctree: nodes.document) -> None:
    # The folded code of a solution says what it is. In the cell's metadata this would be part of the cache's key.
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            cell["prompt_show"], cell["prompt_hide"] = "Show the solution's code", "Hide the solution's code"


_LITERAL = re.compile(r"(``.*?``)")


def keep_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # In a docstring |x| is an absolute value; reStructuredText would look for a substitution of that name.
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = _LITERAL.split(line)
            lines[i] = "".join(part if k % 2 else part.replace("|", r"\|") for k, part in enumerate(parts))


_ANCHOR = re.compile(r"</?a\b[^>]*>")

# (what is written, what it should be); most reasons are the names of axe's rules.
_MARKUP = (
    # label-content-name-mismatch: the words that are seen have to be the name that is spoken.
    (re.compile(r'(<button\b(?=[^>]*\bsearch-button-field\b)[^>]*?) aria-label="Search"'), r"\1"),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    # region: what the sidebar holds beside its navigation.
    (re.compile(r'<div\b(?=[^>]*\bid="pst-primary-sidebar")'), '<div role="region" aria-label="Sidebar"'),
    # Words of sphinx-codeautolink, in the API reference.
    (re.compile(r"<summary>Expand for references to "), "<summary>Where the book uses "),
    # nested-interactive: a link inside the line that unfolds a block cannot be reached.
    (re.compile(r"<summary>.*?</summary>", re.S), lambda match: _ANCHOR.sub("", match[0])),
    # scrollable-region-focusable: what scrolls must be reached by the keyboard.
    (
        re.compile(r'<div class="pst-scrollable-table-container">'),
        '<div class="pst-scrollable-table-container" tabindex="0">',
    ),
)


def _repair_markup(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        if "_static" in page.relative_to(app.outdir).parts:
            continue
        text = old = page.read_text("utf8")
        for pattern, replacement in _MARKUP:
            text = pattern.sub(replacement, text)
        if text != old:
            page.write_text(text, "utf8")


def _drop_unused_scripts(app: Sphinx, exception: Exception | None) -> None:
    # The theme loads 1.45 MB of Font Awesome's scripts on each page; its icons come from the web font.
    if exception is None and app.builder.format == "html":
        for pattern in ("scripts/fontawesome.js", "vendor/fontawesome/*/js/all.min.js"):
            for script in Path(app.outdir, "_static").glob(pattern):
                script.write_text("/* icons come from the web font */\n")


def setup(app: Sphinx) -> dict[str, object]:
    _repair_codeautolink()
    _repair_proof_links()
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("doctree-read", _every_id_is_a_target)
    app.connect("doctree-read", _name_solutions)
    app.connect("doctree-resolved", _drop_repeated_ids)
    app.connect("build-finished", _repair_markup, priority=900)
    app.connect("build-finished", _drop_unused_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
