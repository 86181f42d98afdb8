"""The site's extensions: boxes from comments, formulas from KaTeX, and a cache that follows the package."""

import gankit_cache
import pytest
from docutils import nodes
from gankit_executed import seeds_line, tolerance
from gankit_math import glue, render
from gankit_prose import rewrite
from gankit_site import keep_bars
from sphinx.errors import ExtensionError

THEOREM = (
    "<!-- theorem: best-d -->\n**Theorem (Best D).** For $G$:\n\n$$\nx\n$$\n<!-- label: eq-d -->\n<!-- end theorem -->"
)


def test_a_theorem_becomes_a_directive_with_its_title_and_label():
    text = rewrite(THEOREM)
    assert text.splitlines()[0] == "::::::{prf:theorem} Best D"
    assert ":label: best-d" in text and "$$ (eq-d)" in text and "**Theorem" not in text and "<!--" not in text


@pytest.mark.parametrize("marker", ["<!-- proof: folded -->", "<!-- proof -->"])
def test_a_proof_is_folded_when_asked(marker: str):
    text = rewrite(f"{marker}\n*Proof.* Clear.\n<!-- end proof -->")
    assert ("dropdown" in text) == ("folded" in marker) and "Clear." in text


def test_a_folded_proof_has_a_title_to_unfold_it_by():
    text = rewrite("<!-- proof: folded -->\n*Proof.* Clear.\n<!-- end proof -->")
    assert text.splitlines()[0] == "::::::{admonition} Proof" and "Proof.*" not in text


def test_a_solution_loses_its_html_and_keeps_its_text():
    text = rewrite(
        "<!-- solution: one -->\n<details><summary>Solution</summary>\n\nIt is 1.\n\n</details>\n<!-- end solution -->"
    )
    assert "{solution} one" in text and "It is 1." in text and "details" not in text and ":class: dropdown" in text


@pytest.mark.parametrize(
    "text",
    [
        "<!-- theorem: a -->\n**Theorem.** x",
        "<!-- lemma: a -->\n**Theorem.** x\n<!-- end lemma -->",
        "<!-- end proof -->",
    ],
)
def test_a_broken_box_stops_the_build(text: str):
    with pytest.raises(ExtensionError):
        rewrite(text, "chapter")


def test_formulas_are_rendered_and_errors_named():
    markup, error = render(r"\frac{p}{p+q}", True)
    assert error == "" and "katex-display" in markup and "<mfrac>" in markup
    markup, error = render(r"\undefinedthing{x}", False)
    assert "Undefined control sequence" in error and r"\undefinedthing{x}" in markup


@pytest.mark.parametrize(
    ("values", "at_most", "line"),
    [
        ([1.0, 2.0, 4.0], 3.0, "Holds for 2 of 3 seeds: median 2, 1 to 4."),
        ([1.0, None, 2.0], None, "Holds for 2 of 3 seeds: median 1.5, 1 to 2."),
        ([5.0, 5.0], 6.0, "Holds for 2 of 2 seeds: 5 for each of them."),
        ([True, False], None, "Holds for 1 of 2 seeds."),
        ([None, None], 1.0, "Holds for 0 of 2 seeds."),
    ],
)
def test_what_the_claims_page_says_of_the_seeds(values, at_most, line: str):
    assert seeds_line({"values": values, "at_least": None, "at_most": at_most}) == line


def test_a_random_claim_without_a_row_says_so():
    assert seeds_line(None) == "Not yet repeated with other seeds."


@pytest.mark.parametrize(
    ("bounds", "words"),
    [((2, 2), "2"), ((None, 1e-12), "≤ 1.0e-12"), ((1, 3), "≥ 1, ≤ 3"), ((0, None), "≥ 0"), ((None, None), "true")],
)
def test_bounds_are_shown_as_a_person_writes_them(bounds, words: str):
    assert tolerance({"at_least": bounds[0], "at_most": bounds[1]}) == words


@pytest.mark.parametrize(
    ("before", "after", "glued"),
    [
        ("of ", ", ", ["of ", "x,", " "]),
        ("", "-divergence of", ["x-divergence", " of"]),
        ("so (", "). Then", ["so ", "(x).", " Then"]),
        ("of ", " is", ["of ", "x", " is"]),
        ("(", ")", ["(x)"]),
    ],
)
def test_what_touches_a_formula_stays_on_its_line(before: str, after: str, glued: list[str]):
    texts = [nodes.Text(before), nodes.math("", "x"), nodes.Text(after)]
    line = nodes.paragraph("", "", *(node for node in texts if node != ""))
    glue(line)
    assert [node.astext() for node in line] == glued


def test_the_cache_moves_when_the_package_changes(tmp_path, monkeypatch):
    (tmp_path / "gankit").mkdir()
    source = tmp_path / "gankit" / "a.py"
    monkeypatch.setattr(gankit_cache, "ROOT", tmp_path)
    names = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        source.write_text(text)
        names.append(gankit_cache.cache_path())
    assert names[0] == names[2] != names[1]


def test_a_lab_gets_its_place_and_its_script():
    page = rewrite("Try it.\n\n<!-- lab: transport -->\n\nOn.")
    assert '<div class="transport-lab"></div>' in page
    assert '<script defer src="../../_static/transport-lab.js"></script>' in page
    assert "lab.js" not in rewrite("No lab here.")


def test_a_docstring_may_write_absolute_values():
    lines = ["at most |x| + |y|, in ``a | b``", ">>> 1 | 2"]
    keep_bars(None, "function", "f", None, None, lines)
    assert lines == [r"at most \|x\| + \|y\|, in ``a | b``", ">>> 1 | 2"]
