"""Claims that hold and that do not, what a notebook displays, and that no text of a reader can break the page."""

import base64
import inspect
import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import count

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from gankit import divergences, notebook, training
from gankit.notebook import CLAIM_MIME, ClaimError, animate, check, claim, progress, show, show_source, start, unchecked

NASTY = """</script><script>alert("1 < 2 & 3 > 2")</script><!--<script> ' é"""


@pytest.fixture
def displayed(tmp_path, monkeypatch):
    """A real IPython shell; what a call displays comes back as a list of MIME bundles."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False

    def run(call, *arguments, **options):
        with capture_output() as captured:
            call(*arguments, **options)
        assert captured.stdout == ""
        return [output.data for output in captured.outputs]

    yield run
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


class Page(HTMLParser):
    """Parses a fragment and insists that tags are closed in order and attributes quoted once."""

    VOID = ("img", "input")

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], ""
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes)
        assert all(re.fullmatch(r"[a-z-]+", name) for name, _ in attributes)
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def figure():
    made, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, 1])
    return made


def decoded(address):
    kind, data = address.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bounds", "line"),
    [
        (0.5, {"at_most": 1.0}, "✓ a-claim: 0.5 ≤ 1"),
        (1.0, {"at_most": 1.0}, "✓ a-claim: 1 ≤ 1"),
        (1.0, {"at_least": 1.0}, "✓ a-claim: 1 ≤ 1"),
        (2, {"at_least": 1, "at_most": 3}, "✓ a-claim: 1 ≤ 2 ≤ 3"),
        (-2.0, {"at_most": 0}, "✓ a-claim: -2 ≤ 0"),
        (0.0, {"at_least": 0, "at_most": 0}, "✓ a-claim: 0 ≤ 0 ≤ 0"),
        (True, {}, "✓ a-claim: true"),
        (torch.tensor(0.25), {"at_most": 0.5}, "✓ a-claim: 0.25 ≤ 0.5"),
        (torch.tensor(True), {}, "✓ a-claim: true"),
        (np.float32(0.25), {"at_most": 0.5}, "✓ a-claim: 0.25 ≤ 0.5"),
        (np.bool_(True), {}, "✓ a-claim: true"),
        (3.2e-13, {"at_most": 1e-12}, "✓ a-claim: 3.2e-13 ≤ 1.0e-12"),
    ],
)
def test_a_true_claim_prints_one_line(value, bounds, line, capsys):
    claim("a-claim", value, **bounds)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("value", "bounds", "line"),
    [
        (1.0000001, {"at_most": 1.0}, "✗ a-claim: 1 ≤ 1"),
        (0.5, {"at_least": 1.0}, "✗ a-claim: 1 ≤ 0.5"),
        (4, {"at_least": 1, "at_most": 3}, "✗ a-claim: 1 ≤ 4 ≤ 3"),
        (0, {"at_least": 1, "at_most": 3}, "✗ a-claim: 1 ≤ 0 ≤ 3"),
        (False, {}, "✗ a-claim: false"),
        (torch.tensor(False), {}, "✗ a-claim: false"),
        (math.nan, {"at_most": 1.0}, "✗ a-claim: nan ≤ 1"),
        (math.nan, {"at_least": 1.0}, "✗ a-claim: 1 ≤ nan"),
        (torch.tensor(math.nan), {"at_least": -math.inf}, "✗ a-claim: -inf ≤ nan"),
        (1.0, {"at_most": math.nan}, "✗ a-claim: 1 ≤ nan"),
        (math.inf, {"at_most": 1e300}, "✗ a-claim: inf ≤ 1.0e+300"),
    ],
)
def test_a_false_claim_is_shown_and_raises(value, bounds, line, capsys):
    with pytest.raises(ClaimError) as raised:
        claim("a-claim", value, **bounds)
    assert str(raised.value) == line
    assert capsys.readouterr().out == line + "\n"
    assert isinstance(raised.value, AssertionError)


def test_a_claim_that_says_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"^at_most or at_least: expected a bound for a number, got None"):
        claim("a-claim", 1.0)
    with pytest.raises(ValueError, match=r"^at_most and at_least: expected no bound beside a bool, got \(1, None\)"):
        claim("a-claim", True, at_most=1)
    with pytest.raises(ValueError, match=r"^at_most or at_least"):
        claim("a-claim", torch.tensor(1))


@pytest.mark.parametrize("label", ["A-Claim", "a claim", "", "-a", "a--b", 'a"><script>', "a\n"])
def test_labels_are_kebab_case(label):
    with pytest.raises(ValueError, match=r"^label: expected kebab-case, .*, got"):
        claim(label, True)


def test_the_words_are_shown(capsys):
    claim("a-claim", 0.5, at_most=1, says="largest error")
    assert capsys.readouterr().out == "✓ a-claim: 0.5 ≤ 1 (largest error)\n"
    with pytest.raises(ClaimError, match=r"\(largest error\)$"):
        claim("a-claim", 2.0, at_most=1, says="largest error")


def test_a_claim_leaves_a_record_for_the_claims_page(displayed):
    (bundle,) = displayed(claim, "a-claim", torch.tensor(0.25), at_most=0.5, says=NASTY, random=True)
    record = {"label": "a-claim", "value": 0.25, "at_most": 0.5, "at_least": None, "says": NASTY, "random": True}
    assert json.loads(json.dumps(bundle[CLAIM_MIME])) == record
    assert bundle["text/plain"] == f"✓ a-claim: 0.25 ≤ 0.5 ({NASTY})"
    page = Page(bundle["text/html"])
    assert page.all("p") == [{"class": "claim", "id": "claim-a-claim"}]
    assert page.text == f"✓ a-claim: 0.25 ≤ 0.5 ({NASTY})"
    assert not page.all("script")


def test_records_of_bools_and_numpy_numbers_are_plain(displayed):
    for value, plain in ((np.float64(0.5), 0.5), (np.int64(2), 2), (torch.tensor(3), 3)):
        (bundle,) = displayed(claim, "a-claim", value, at_least=0)
        assert json.loads(json.dumps(bundle[CLAIM_MIME]))["value"] == plain
    (bundle,) = displayed(claim, "a-claim", torch.tensor(True))
    assert bundle[CLAIM_MIME]["value"] is True


@pytest.mark.parametrize(("value", "plain"), [(2.0, 2.0), (math.nan, None), (math.inf, None)])
def test_a_false_claim_leaves_a_record_that_json_can_hold(displayed, value, plain):
    def false():
        with pytest.raises(ClaimError):
            claim("a-claim", value, at_most=1.0)

    (bundle,) = displayed(false)
    record = json.loads(json.dumps(bundle[CLAIM_MIME], allow_nan=False))
    assert (record["label"], record["value"], record["at_most"]) == ("a-claim", plain, 1.0)
    assert Page(bundle["text/html"]).text.startswith("✗ a-claim: ")


def test_an_unchecked_statement_needs_a_label_that_can_be_linked():
    with pytest.raises(ValueError, match=r"^label: expected kebab-case, .*, got 'A claim'"):
        unchecked("A claim", because="it speaks of all functions")


def test_unchecked_says_why(capsys):
    unchecked("a-claim", because="it speaks of all functions")
    assert capsys.readouterr().out == "○ a-claim: not checked: it speaks of all functions\n"


def test_unchecked_leaves_a_record(displayed):
    (bundle,) = displayed(unchecked, "a-claim", because=NASTY)
    assert bundle[CLAIM_MIME] == {"label": "a-claim", "unchecked": NASTY}
    page = Page(bundle["text/html"])
    assert page.text == f"○ a-claim: not checked: {NASTY}"
    assert page.all("p") == [{"class": "claim unchecked", "id": "claim-a-claim"}]


# --- exercises ----------------------------------------------------------------------------------------------------


def test_check_waits_for_an_answer(capsys):
    check("one", ..., lambda answer: 1 / 0, hint="divide")
    assert capsys.readouterr().out.startswith("○ one: replace the ...")


def test_check_accepts_a_right_answer(capsys):
    check("one", torch.tensor(4.0), lambda answer: answer == 4, hint="add")
    assert capsys.readouterr().out == "✓ one: right.\n"


def test_check_refuses_a_wrong_answer_without_giving_it_away():
    with pytest.raises(AssertionError, match=r"^✗ one: not yet\. Hint: add$"):
        check("one", 5, lambda answer: answer == 4, hint="add")
    with pytest.raises(AssertionError, match=r"^✗ one: not yet"):
        check("one", None, lambda answer: answer, hint="add")


def test_check_explains_an_answer_that_raises():
    with pytest.raises(
        AssertionError, match=r"^✗ one: your answer raised TypeError: .* Hint: write a function$"
    ) as raised:
        check("one", 5, lambda answer: answer(2) == 4, hint="write a function")
    assert isinstance(raised.value.__cause__, TypeError)


# --- sources, pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [training.descend, divergences.FDivergence, training.adversarial_training])
def test_show_source_shows_the_code_that_runs(thing, displayed):
    source = inspect.getsource(thing).rstrip()
    line = inspect.getsourcelines(thing)[1]
    (bundle,) = displayed(show_source, thing)
    assert bundle["text/plain"] == source
    name = thing.__module__.replace(".", "/")
    assert bundle["text/markdown"] == f"`{name}.py, line {line}`\n\n```python\n{source}\n```"


def test_show_source_prints_outside_of_notebooks(capsys):
    show_source(training.descend)
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("# gankit/training.py, line ")
    assert printed.endswith(inspect.getsource(training.descend))


def test_show_displays_the_figure_with_its_words(displayed):
    made = figure()
    (bundle,) = displayed(show, made, alt=NASTY, caption="2 < 3 & more")
    page = Page(bundle["text/html"])
    (image,) = page.all("img")
    assert image["alt"] == NASTY
    width, height = decoded(image["src"]).size
    assert width == pytest.approx(2 * height, abs=2) and width > 100
    assert page.text == "2 < 3 & more"
    assert [tag for tag, _ in page.tags] == ["figure", "img", "figcaption"]
    assert bundle["text/plain"] == f"[figure: {NASTY}]"
    assert not plt.fignum_exists(made.number)  # else the notebook shows it a second time
    (bundle,) = displayed(show, figure(), alt="a line")
    assert not Page(bundle["text/html"]).all("figcaption")


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_pictures_need_words(alt):
    with pytest.raises(ValueError, match=r"^alt: expected words that say what the figure shows, got"):
        show(figure(), alt=alt)
    with pytest.raises(ValueError, match=r"^alt: expected words that say what the animation shows, got"):
        animate([figure()], ["one"], alt=alt)
    plt.close("all")


def script(markup):
    """The frames and the labels that the player's script holds."""
    text = re.search(r"<script>(.*)</script></figure>\Z", markup, flags=re.DOTALL)[1]
    frames = re.search(r"frames = (\[.*?\]), labels = (\[.*\]);\n", text)
    return json.loads(frames[1]), json.loads(frames[2]), text


def test_animate_plays_every_frame(displayed):
    images = [torch.full((5, 7), -1.0), torch.zeros(5, 7), torch.full((5, 7), 1.0, requires_grad=True)]
    labels = ["step 1", "2 < 3", NASTY]
    (bundle,) = displayed(animate, iter(images), labels, alt=NASTY, caption="a < b & <b>c", seconds=1.5)
    markup = bundle["text/html"]
    page = Page(markup)
    frames, kept, code = script(markup)
    assert kept == labels
    assert [set(np.asarray(decoded(frame).convert("L")).flat) for frame in frames] == [{0}, {128}, {255}]
    assert all(decoded(frame).size == (7, 5) for frame in frames)
    (poster,) = page.all("img")
    assert poster == {"src": frames[-1], "alt": NASTY}
    (slider,) = page.all("input")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2") and slider["aria-label"]
    assert page.all("button")[0]["aria-label"]
    assert NASTY in page.text and "a < b & <b>c" in page.text
    assert len(page.all("script")) == 1 and markup.count("</script") == 1 and "<!--" not in markup
    assert page.all("figure")[0]["id"] in code and "}, 500);" in code
    assert bundle["text/plain"] == f"[animation of 3 frames: {NASTY}]"


def test_animations_have_their_own_names_and_same_frames_the_same(displayed):
    def made(level):
        (bundle,) = displayed(animate, [torch.full((4, 4), level)], ["one"], alt="a square")
        return bundle["text/html"]

    assert made(0.5) == made(0.5)
    names = {Page(made(level)).all("figure")[0]["id"] for level in (-0.5, 0.0, 0.5)}
    assert len(names) == 3


def test_animate_takes_figures_and_color_images_and_gray_ones(displayed):
    made = figure()
    (bundle,) = displayed(animate, [made], ["one"], alt="a line")
    assert decoded(script(bundle["text/html"])[0][0]).size[0] > 100
    assert not plt.fignum_exists(made.number)
    color = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 4, 6)
    (bundle,) = displayed(animate, [color], ["one"], alt="a color")
    picture = decoded(script(bundle["text/html"])[0][0]).convert("RGB")
    assert picture.size == (6, 4) and picture.getpixel((0, 0)) == (0, 128, 255)
    (bundle,) = displayed(animate, [torch.ones(1, 4, 6)], ["one"], alt="white")
    picture = decoded(script(bundle["text/html"])[0][0]).convert("RGB")
    assert picture.size == (6, 4) and picture.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("frames", "labels"), [(2, 1), (1, 2), (0, 0)])
def test_animate_needs_a_label_for_each_frame(frames, labels):
    message = rf"^labels: expected one label for each of {frames} frames, and at least one frame, got {labels} labels"
    with pytest.raises(ValueError, match=message):
        animate([torch.zeros(4, 4)] * frames, ["x"] * labels, alt="squares")


def test_pictures_are_words_outside_of_notebooks(capsys):
    show(figure(), alt="a line")
    animate([torch.zeros(4, 4)], ["one"], alt="a square")
    assert capsys.readouterr().out == "[figure: a line]\n[animation of 1 frames: a square]\n"


# --- progress and start -------------------------------------------------------------------------------------------


def test_progress_yields_exactly_total_and_ends_its_line(capsys):
    source = count()
    assert list(progress(source, 7)) == list(range(7))
    assert next(source) == 7  # no step was computed in vain
    printed = capsys.readouterr().out
    assert printed.endswith("\n") and printed.count("\n") == 1
    assert re.fullmatch(r"training: 7 of 7 steps in \d+\.\d s", printed.rstrip("\n").split("\r")[-1])


def test_progress_of_nothing_and_of_too_little():
    assert list(progress(count(), 0)) == []
    assert list(progress([1, 2], 5)) == [1, 2]


def test_progress_in_a_notebook_rewrites_one_line(displayed, monkeypatch):
    clock = count()
    monkeypatch.setattr(notebook.time, "monotonic", lambda: float(next(clock)))
    bundles = displayed(lambda: list(progress(count(), 1200, "fitting")))
    assert len(bundles) == 1200
    assert bundles[0]["text/plain"].startswith("fitting: 1 of 1,200 steps")
    assert re.fullmatch(r"fitting: 1,200 of 1,200 steps in \d+\.0 s", bundles[-1]["text/plain"])


def test_start_seeds_and_returns_the_device(monkeypatch):
    monkeypatch.delenv("GANKIT_SEED", raising=False)
    with plt.rc_context():
        device = start(3)
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert torch.get_num_threads() == 1
        first = torch.rand(4)
        start(3)
        assert torch.equal(torch.rand(4), first)
        start()
        zero = torch.rand(4)
        torch.manual_seed(0)
        assert torch.equal(torch.rand(4), zero) and not torch.equal(zero, first)
        assert plt.rcParams["figure.facecolor"] == "white"


def test_the_environment_replaces_the_seed(monkeypatch):
    monkeypatch.setenv("GANKIT_SEED", "7")
    with plt.rc_context():
        start(3)
    found = torch.rand(4)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(4), found)
