r"""Plain-Markdown theorems: invisible comments become boxes of sphinx-proof and sphinx-exercise.

A notebook reads well in Colab, JupyterLab and on GitHub without any extension::

    <!-- theorem: optimal-discriminator -->
    **Theorem (Optimal discriminator).** For fixed $G$ ...
    <!-- end theorem -->

and the site shows a numbered box with the anchor ``#optimal-discriminator``. ``<!-- label: eq-name -->`` on the line
after a display formula numbers it, and ``<!-- lab: name -->`` makes room for the page's script ``name-lab.js``. A
``<details>`` block inside a box, or ``<!-- proof: folded -->``, folds it.
"""

import json
import re

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BOXES = ("theorem", "definition", "lemma", "proposition", "corollary", "remark", "example", "algorithm", "assumption")
KINDS = (*BOXES, "proof", "exercise", "solution")
_ANY = "|".join(KINDS)
_BLOCK = re.compile(
    rf"^<!-- (?P<kind>{_ANY})(?:: (?P<label>[\w-]+))? -->\n(?P<body>.*?)^<!-- end (?P=kind) -->[ \t]*$", re.M | re.S
)
_LEFT_OVER = re.compile(rf"<!-- (?:end )?(?:{_ANY})\b.*?-->")
_LEAD = re.compile(r"\A\s*(?:\*\*|\*)(?P<name>\w+)(?:\s*\((?P<title>.*?)\))?\.?(?:\*\*|\*)\s*", re.S)
_DETAILS = re.compile(r"\A\s*<details>\s*<summary>.*?</summary>\s*(?P<body>.*?)\s*</details>\s*\Z", re.S)
_LAB = re.compile(r"^<!-- lab: ([\w-]+) -->[ \t]*$", re.M)
_EQUATION = re.compile(r"^\$\$[ \t]*\n<!-- label: ([\w-]+) -->[ \t]*$", re.M)


def rewrite(text: str, where: str = "?") -> str:
    """The same Markdown with every marked block as a directive; raises ``ExtensionError`` for an unpaired marker."""

    def box(match: re.Match[str]) -> str:
        kind, label, body = match["kind"], match["label"], match["body"]
        details = _DETAILS.match(body)
        body = details["body"] if details else body
        folded = details is not None or label == "folded"
        options = [":class: dropdown"] if folded else []
        if kind == "solution":
            return _directive("solution", f" {label}", [f":label: {label}-solution", *options], body)
        lead = _LEAD.match(body)
        if lead is None or lead["name"].lower() != kind:
            raise ExtensionError(
                f"{where}: a {kind} must begin with **{kind.capitalize()} (Title).**, got {body[:40]!r}"
            )
        body = body[lead.end() :]
        if kind == "proof" and folded:
            # The line that unfolds a box is its title, and sphinx-proof gives proofs none.
            return _directive("admonition", " Proof", [":class: proof dropdown"], body)
        if kind == "proof":
            return _directive("prf:proof", "", [], body)
        if label is None:
            raise ExtensionError(f"{where}: a {kind} needs a label: <!-- {kind}: label -->")
        name = kind if kind == "exercise" else f"prf:{kind}"
        title = f" {lead['title']}" if lead["title"] else ""
        return _directive(name, title, [f":label: {label}", *options], body)

    result = _BLOCK.sub(box, _EQUATION.sub(r"$$ (\1)", text))
    result = _LAB.sub(lambda match: _directive("raw", " html", [], _place(match[1])), result)
    if left := _LEFT_OVER.search(result):
        raise ExtensionError(f"{where}: unpaired marker {left[0]}")
    return result


def _place(lab: str) -> str:
    """Room for a lab, and its script from book/_static: only the pages with a lab load one."""
    return f'<div class="{lab}-lab"></div>\n<script defer src="../../_static/{lab}-lab.js"></script>'


def _directive(name: str, argument: str, options: list[str], body: str) -> str:
    return "\n".join([f"::::::{{{name}}}{argument}", *options, "", body.strip(), "::::::"])


def _source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    if not str(app.env.doc2path(docname)).endswith(".ipynb"):
        source[0] = rewrite(source[0], docname)
        return
    notebook = json.loads(source[0])
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            cell["source"] = rewrite("".join(cell["source"]), f"{docname}, cell {number}")
    source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("source-read", _source_read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
