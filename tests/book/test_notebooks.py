"""Every chapter keeps the house rules; that every cell runs is nbval's part of the same pytest call."""

import execute
import nbformat
import notebooks
import pytest

PATHS = notebooks.every_notebook()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_chapter_keeps_the_house_rules(path):
    assert notebooks.check([path], notebooks.install_cell()) == []


def test_labels_are_given_once_in_the_whole_book():
    read = [(path.stem, nbformat.read(path, as_version=4)) for path in PATHS]
    assert list(notebooks.shared_labels(read)) == []


def test_the_table_of_contents_lists_every_notebook_and_nothing_else(root):
    listed = execute.entries()
    assert len(listed) == len(set(listed))
    files = {str(path.relative_to(root).with_suffix("")) for path in PATHS}
    pages = {str(path.relative_to(root).with_suffix("")) for path in (root / "book").glob("*.md")}
    missing = [name for name in listed if not any((root / f"{name}{suffix}").exists() for suffix in (".ipynb", ".md"))]
    assert missing == [] and files <= set(listed) and pages <= set(listed)
