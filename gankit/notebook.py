"""What only notebooks need: a fixed start, claims checked where they are made, pictures with words, animations.

Everything here also works in plain Python, where it prints instead of displaying HTML.
"""

import base64
import hashlib
import html
import inspect
import io
import json
import math
import os
import re
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import torch
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from matplotlib.figure import Figure
from torch import Tensor

from . import _checks, plotting

T = TypeVar("T")
CLAIM_MIME = "application/vnd.gankit.claim+json"
LABEL = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ClaimError(AssertionError):
    """A sentence of the book that the computation beside it does not bear out."""


def start(seed: int = 0) -> torch.device:
    """Seed torch, keep to one thread, set the book's figure style; the device to train on is returned.

    The environment variable GANKIT_SEED replaces ``seed``, which is how ``make seeds`` repeats a chapter.
    Networks of this book's size run faster on one thread than on several.
    """
    torch.manual_seed(int(os.environ.get("GANKIT_SEED", seed)))
    torch.set_num_threads(1)
    plotting.use_style()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _show(markup: str, text: str, **more: object) -> None:
    """Display HTML in a notebook, print the text elsewhere."""
    if get_ipython() is None:
        print(text)
    else:
        display({"text/html": markup, "text/plain": text, **more}, raw=True)


def _number(value: float) -> str:
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def claim(
    label: str,
    value: float | bool | Tensor,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    says: str = "",
    random: bool = False,
) -> None:
    """Check one statement of the book: at_least <= value <= at_most, or that a bool is true.

    ``label`` is the label of the theorem or the formula, in kebab case; ``says`` names the measured quantity in a few
    plain words. ``random`` marks a value that depends on the seed: ``make seeds`` measures those over ten seeds.
    Raises ``ClaimError`` if the statement is false and ``ValueError`` if it says nothing. NaN is always false.
    """
    _kebab_case(label)
    if not isinstance(value, bool | int | float):
        value = value.item()
    if isinstance(value, bool):
        if at_most is not None or at_least is not None:
            _checks.fail("at_most and at_least", "no bound beside a bool", (at_most, at_least))
        holds, shown = value, "true" if value else "false"
    else:
        if at_most is None and at_least is None:
            _checks.fail("at_most or at_least", "a bound for a number", None)
        lower, upper = at_least if at_least is not None else -math.inf, at_most if at_most is not None else math.inf
        holds = lower <= value <= upper
        left = f"{_number(lower)} ≤ " if at_least is not None else ""
        right = f" ≤ {_number(upper)}" if at_most is not None else ""
        shown = f"{left}{_number(value)}{right}"
    mark, line = "✓" if holds else "✗", f"{label}: {shown}" + (f" ({says})" if says else "")
    finite = value if math.isfinite(value) else None  # JSON knows no NaN
    record = {"label": label, "value": finite, "at_most": at_most, "at_least": at_least, "says": says, "random": random}
    markup = f'<p class="claim" id="claim-{label}"><span aria-hidden="true">{mark}</span> <code>{label}</code>: '
    markup += f"<strong>{shown}</strong>" + (f" ({html.escape(says)})" if says else "") + "</p>"
    # Shown before it raises: ``make seeds`` collects the values of false claims too.
    _show(markup, f"{mark} {line}", **{CLAIM_MIME: record})
    if not holds:
        raise ClaimError(f"{mark} {line}")


def _kebab_case(label: str) -> None:
    if not LABEL.fullmatch(label):
        _checks.fail("label", "kebab-case, as in optimal-discriminator", repr(label))


def unchecked(label: str, *, because: str) -> None:
    """Say that no computation can check a statement, and why; it is listed on the claims page beside those that are.

    Raises ``ValueError`` for a label that is not in kebab case.
    """
    _kebab_case(label)
    record = {"label": label, "unchecked": because}
    markup = f'<p class="claim unchecked" id="claim-{label}"><span aria-hidden="true">○</span> <code>{label}</code>: '
    _show(
        markup + f"not checked: {html.escape(because)}</p>",
        f"○ {label}: not checked: {because}",
        **{CLAIM_MIME: record},
    )


def check(exercise: str, answer: Any, passes: Callable[[Any], object], *, hint: str) -> None:
    """Tell a reader whether an answer is right, without giving it away.

    ``answer`` may still be ``...``. ``passes`` says whether it is right; else ``AssertionError`` tells the ``hint``.
    """
    if answer is ...:
        print(f"○ {exercise}: replace the ... by your answer and run the cell again.")
        return
    try:
        right = bool(passes(answer))
    except Exception as error:
        raise AssertionError(
            f"✗ {exercise}: your answer raised {type(error).__name__}: {error}. Hint: {hint}"
        ) from error
    if not right:
        raise AssertionError(f"✗ {exercise}: not yet. Hint: {hint}")
    print(f"✓ {exercise}: right.")


def show_source(thing: Callable[..., object]) -> None:
    """Print the source of a function or class of gankit where it is discussed: the code shown is the code run."""
    source, (_, line) = textwrap.dedent(inspect.getsource(thing)).rstrip(), inspect.getsourcelines(thing)
    path = Path(inspect.getfile(thing))
    where = f"{path.parent.name}/{path.name}, line {line}"
    if get_ipython() is None:
        print(f"# {where}\n{source}")
    else:
        display({"text/markdown": f"`{where}`\n\n```python\n{source}\n```", "text/plain": source}, raw=True)


def _png(picture: Figure | Tensor) -> bytes:
    """A figure, or an image of shape (H, W), (1, H, W) or (3, H, W) in [-1, 1], as PNG bytes."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png")
        plt.close(picture)
    else:
        pixels = ((picture.detach().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
        pixels = pixels.movedim(0, -1).squeeze(-1) if pixels.ndim == 3 else pixels
        plt.imsave(buffer, pixels.numpy(), format="png", cmap="gray", vmin=0, vmax=255)
    return buffer.getvalue()


def _palette(png: bytes) -> str:
    """The same picture with at most 64 colors, as a data address: a third of the size, no visible loss in plots."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def show(figure: Figure, *, alt: str, caption: str = "") -> None:
    """Display a figure with a text alternative, which screen readers need, and a caption."""
    if not alt.strip():
        _checks.fail("alt", "words that say what the figure shows", repr(alt))
    address = "data:image/png;base64," + base64.b64encode(_png(figure)).decode()
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    _show(f'<figure class="plot"><img src="{address}" alt="{html.escape(alt)}">{words}</figure>', f"[figure: {alt}]")


_PLAYER = """<figure class="plot animation" id="{id}">
<img src="{poster}" alt="{alt}">
<div class="controls"><button type="button" aria-label="Play or pause">▶</button>
<input type="range" min="0" max="{last}" value="{last}" aria-label="Frame"><output>{label}</output></div>
<figcaption>{caption}</figcaption>
<script>(() => {{
  const root = document.getElementById("{id}"), frames = {frames}, labels = {labels};
  const image = root.querySelector("img"), slider = root.querySelector("input");
  const button = root.querySelector("button"), label = root.querySelector("output");
  let timer = null;
  const go = i => {{ slider.value = i; image.src = frames[i]; label.textContent = labels[i]; }};
  const stop = () => {{ clearInterval(timer); timer = null; button.textContent = "▶"; }};
  slider.addEventListener("input", () => {{ stop(); go(+slider.value); }});
  button.addEventListener("click", () => {{
    if (timer) return stop();
    let i = +slider.value === frames.length - 1 ? 0 : +slider.value;
    button.textContent = "⏸"; go(i);
    timer = setInterval(() => {{ if (++i < frames.length) go(i); else stop(); }}, {pause});
  }});
}})();</script></figure>"""


def animate(
    frames: Iterable[Figure | Tensor], labels: Sequence[str], *, alt: str, caption: str = "", seconds: float = 6.0
) -> None:
    """Display a flip-book with a slider and a play button; it needs no kernel, and nothing moves until asked.

    ``frames`` are figures, which are closed, or images in [-1, 1]; the last is the poster. ``labels`` names each.
    """
    if not alt.strip():
        _checks.fail("alt", "words that say what the animation shows", repr(alt))
    pictures = [_palette(_png(frame)) for frame in frames]
    if not pictures or len(pictures) != len(labels):
        _checks.fail(
            "labels", f"one label for each of {len(pictures)} frames, and at least one frame", f"{len(labels)} labels"
        )
    markup = _PLAYER.format(
        id="animation-" + hashlib.sha256("".join(pictures).encode()).hexdigest()[:12],
        poster=pictures[-1],
        alt=html.escape(alt),
        last=len(pictures) - 1,
        label=html.escape(labels[-1]),
        caption=html.escape(caption),
        frames=json.dumps(pictures),
        labels=json.dumps(list(labels)).replace("<", "\\u003c"),  # no label may end the script
        pause=round(1000 * seconds / len(pictures)),
    )
    _show(markup, f"[animation of {len(pictures)} frames: {alt}]")


def progress(steps: Iterable[T], total: int, label: str = "training") -> Iterator[T]:
    """The first ``total`` of ``steps``, with a line that tells how far they are; it works on a static page too."""
    began = shown = time.monotonic()
    handle: DisplayHandle | None = None
    for done, step in enumerate(islice(steps, total), start=1):
        yield step
        now = time.monotonic()
        if now - shown > 0.5 or done == total:
            line, shown = f"{label}: {done:,} of {total:,} steps in {now - began:.1f} s", now
            if get_ipython() is None:
                print(f"\r{line}", end="\n" if done == total else "", flush=True)
            elif handle is None:
                handle = display({"text/plain": line}, raw=True, display_id=True)
            else:
                handle.update({"text/plain": line}, raw=True)
