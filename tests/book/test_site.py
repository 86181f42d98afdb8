"""The site in a real browser: what a reader sees, wide and narrow, light and dark, with the network closed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import check_site
import execute
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from gankit.divergences import JENSEN_SHANNON, KL, TOTAL_VARIATION
from gankit.transport import wasserstein_1d

ROOT = Path(__file__).resolve().parents[2]
PAGES = [f"{name}.html" for name in execute.entries()]
CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
VIEWS = [(width, scheme) for width in (1280, 360) for scheme in ("light", "dark")]


@contextmanager
def opened(browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """A page in a fresh browser, with all that goes wrong on it; nothing but this machine can be reached."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, complaints = context.new_page(), []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:100]}"))
    page.on(
        "response", lambda answer: complaints.append(f"{answer.status}: {answer.url}") if answer.status > 399 else None
    )
    context.route(
        lambda target: not target.startswith(("http://127.0.0.1", "file:", "data:")), lambda route: route.abort()
    )
    page.goto(url)
    page.wait_for_load_state("networkidle")
    yield page, complaints
    context.close()


@pytest.mark.parametrize(("width", "scheme"), VIEWS, ids=lambda value: str(value))
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_sound(browser: Browser, address: str, name: str, width: int, scheme: str):
    axe = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text("utf8")
    with opened(browser, f"{address}/{name}", width, scheme) as (page, complaints):
        assert complaints == []
        prose = page.evaluate(
            "() => { const b = document.querySelector('article, main').cloneNode(true);"
            "b.querySelectorAll('pre, code, .katex, script').forEach(e => e.remove()); return b.textContent; }"
        )
        assert [sign for sign in ("$$", "\\frac", "\\begin", "<!--", "{prf:") if sign in prose] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        page.evaluate(axe)
        violations = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], [node["html"][:160] for node in v["nodes"]]) for v in violations] == []


def test_links_anchors_and_alternatives(site: Path):
    assert check_site.problems(site) == []


def test_the_link_check_sees_what_is_broken(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><p id="x"><a href="b.html">b</a><a href="#y">y</a><img src="https://example.org/c.png">'
    )
    found = "\n".join(check_site.problems(tmp_path))
    for part in ("used 2 times", "no such file: b.html", "no such anchor: #y", "without alt", "loads from elsewhere"):
        assert part in found


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_in_colab_and_can_be_downloaded(browser: Browser, address: str, name: str):
    notebook = name.replace(".html", ".ipynb")
    with opened(browser, f"{address}/{name}") as (page, _):
        links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        assert any(link.endswith(f"/blob/main/{notebook}") and "colab.research.google.com" in link for link in links)
        assert any(link.startswith(address) and link.endswith(Path(notebook).name) for link in links)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_numbered_boxes_and_folded_solutions(browser: Browser, address: str, name: str):
    with opened(browser, f"{address}/{name}") as (page, _):
        boxes = page.eval_on_selector_all("div.proof[id], div.exercise[id]", "all => all.map(box => box.id)")
        assert len(boxes) >= 4 and len(set(boxes)) == len(boxes)
        solution = page.locator("div.solution.dropdown, .solution.dropdown").first
        text = solution.locator("p").last
        assert not text.is_visible()
        solution.locator("button").first.focus()
        page.keyboard.press("Enter")
        text.wait_for(state="visible")


def test_search_finds_a_word(browser: Browser, address: str):
    with opened(browser, f"{address}/search.html?q=discriminator") as (page, complaints):
        page.wait_for_selector("#search-results li a")
        assert page.locator("#search-results li a", has_text="GAN").count() >= 1
        assert complaints == []


def test_an_animation_moves_only_when_asked(browser: Browser, address: str):
    with opened(browser, f"{address}/book/adversarial/training-a-gan.html", 360) as (page, _):
        figure = page.locator("figure.animation").first
        image, slider = figure.locator("img"), figure.locator("input[type=range]")
        poster = image.get_attribute("src")
        page.wait_for_timeout(500)
        assert image.get_attribute("src") == poster
        slider.focus()
        page.keyboard.press("Home")
        assert image.get_attribute("src") != poster and slider.input_value() == "0"
        assert figure.locator("output").inner_text() != ""
        figure.locator("button").click()
        page.wait_for_function("input => input.value !== '0'", arg=slider.element_handle())
        assert figure.locator("button").bounding_box()["height"] >= 44


def test_the_claims_page_lists_the_claims_of_every_chapter(browser: Browser, address: str):
    with opened(browser, f"{address}/book/claims.html") as (page, _):
        tables = page.locator("table.claims")
        assert tables.count() == len(CHAPTERS)
        assert page.locator("table.claims tbody tr").count() >= 10 * len(CHAPTERS)
        link = page.locator("table.claims tbody a").first
        link.click()
        page.wait_for_load_state()
        assert page.locator(f"[id='{page.url.partition('#')[2]}']").is_visible()


def test_the_landing_page_shows_what_a_cell_drew(browser: Browser, address: str):
    with opened(browser, f"{address}/book/index.html", 360) as (page, _):
        picture = page.locator("img.landing")
        assert picture.evaluate("image => image.naturalWidth") > 300
        assert "digits" in (picture.get_attribute("alt") or "")


def test_the_site_works_from_the_disk(browser: Browser, site: Path):
    with opened(browser, (site / CHAPTERS[-1]).as_uri()) as (page, complaints):
        assert complaints == []
        assert page.locator(".katex").first.is_visible()
    # A browser does not let a page from the disk read another one: hits are found, and have no excerpt.
    with opened(browser, (site / "search.html").as_uri() + "?q=discriminator") as (page, _):
        page.wait_for_selector("#search-results li a")


def test_only_formulas_that_scroll_stop_the_keyboard(browser: Browser, address: str):
    for width, expected in ((1280, False), (360, True)):
        with opened(browser, f"{address}/book/foundations/f-divergences.html", width) as (page, _):
            boxes = page.eval_on_selector_all(
                "div.math", "all => all.map(box => [box.scrollWidth > box.clientWidth, box.tabIndex === 0])"
            )
            assert any(scrolls for scrolls, _ in boxes) == expected
            assert all(scrolls == stops for scrolls, stops in boxes)


def test_the_transport_lab_computes_what_gankit_computes(browser: Browser, address: str):
    rng = np.random.default_rng(0)
    places = np.arange(6.0)
    with opened(browser, f"{address}/book/transport/optimal-transport.html", 360) as (page, complaints):
        for round_ in range(20):
            weights = rng.integers(0, 11, size=12) * rng.integers(0, 2, size=12)
            weights[[round_ % 6, 6 + (round_ + 1) % 6]] += 1
            page.evaluate(
                "values => document.querySelectorAll('.transport-lab input').forEach((input, k) => {"
                "input.value = values[k]; input.dispatchEvent(new Event('input')); })",
                [int(weight) for weight in weights.clip(max=10)],
            )
            found = json.loads(page.locator(".transport-lab").get_attribute("data-result") or "")
            p, q = (law / law.sum() for law in np.split(weights.clip(max=10).astype(float), 2))
            w = wasserstein_1d(places, places, x_weights=p, y_weights=q)
            plan, f = np.array(found["plan"]), np.array(found["f"])
            assert found["W₁"] == pytest.approx(w, abs=1e-6)
            assert plan.sum(1) == pytest.approx(p, abs=1e-6) and plan.sum(0) == pytest.approx(q, abs=1e-6)
            assert (plan * abs(places[:, None] - places)).sum() == pytest.approx(w, abs=1e-6)
            assert (p - q) @ f == pytest.approx(w, abs=1e-6) and abs(np.diff(f)).max() <= 1 + 1e-9
            for name, divergence in (("TV", TOTAL_VARIATION), ("JSD", JENSEN_SHANNON), ("KL(P ‖ Q)", KL)):
                exact = divergence.between(torch.tensor(p), torch.tensor(q)).item()
                assert float(found[name]) == pytest.approx(exact, abs=1e-6)
        assert complaints == []


def test_the_transport_lab_works_by_keys_and_says_what_it_shows(browser: Browser, address: str):
    with opened(browser, f"{address}/book/transport/optimal-transport.html") as (page, _):
        words = page.locator(".transport-lab .words")
        before = words.inner_text()
        page.locator(".transport-lab input").first.focus()
        page.keyboard.press("ArrowLeft")
        after = words.inner_text()
        assert before != after and "W₁ = " in after and "best critic" in after
        for slider in page.locator(".transport-lab fieldset").first.locator("input").all():
            slider.focus()
            page.keyboard.press("Home")
        assert "positive weight" in words.inner_text()
