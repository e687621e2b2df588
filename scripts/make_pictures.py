"""Take the pictures of the explorer in the README and the tutorial, from the bundled sample, in a real browser.

    .venv/bin/python scripts/make_pictures.py

It needs Chromium (`apt-get install chromium`) and the bundle (`make web`).
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE = {"width": 1440, "height": 900}
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run a worker on the sample; yields its address."""
    command = [sys.executable, "-m", "cellworker.cli.main", "run", "--no-browser", "--port", "0"]
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "DATA_DIR": data, "XDG_DATA_HOME": data}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            try:
                assert found, "the worker did not start"
                yield found[0]
            finally:
                process.terminate()


@contextlib.contextmanager
def looking(browser: Browser, url: str, *, dark: bool = False) -> Iterator[Page]:
    """Open the page with its map drawn."""
    context = browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    context.add_init_script("localStorage.setItem('cellworker-tour-seen', 'yes')")
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("canvas[data-drawn]")
    yield page
    context.close()


def save(page: Page, name: str) -> None:
    """Take the picture when the page no longer changes."""
    expect(page.locator("footer .job")).to_have_count(0)
    expect(page.locator(".state.waiting")).to_have_count(0)
    page.mouse.move(420, SIZE["height"] - 6)
    page.screenshot(path=FOLDER / f"explorer-{name}.png")


def draw(page: Page, corners: list[tuple[float, float]]) -> None:
    """Draw a lasso through places given as shares of the first map."""
    box = page.locator("main canvas").first.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in [*places[1:], places[0]]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    expect(page.locator(".selected")).to_be_visible()


def compare(page: Page) -> None:
    """T cells against the rest, a second map by a gene of the table."""
    page.get_by_title("Points, names, pictures").first.click()
    page.get_by_role("button", name="Colours that colour-blind people tell apart").click()
    page.keyboard.press("Escape")
    page.get_by_title("Add a map beside this one").click()
    page.locator(".set", has=page.get_by_role("button", name="T cell", exact=True)).hover()
    page.keyboard.press("a")
    page.keyboard.press("c")
    page.wait_for_selector(".volcano")
    page.keyboard.press("g")
    page.locator("#gene-search").fill("CD3D")
    page.keyboard.press("Enter")
    expect(page.locator("main canvas").nth(1)).to_have_attribute("data-shows", "CD3D")
    page.get_by_role("tab", name="Sets").click()


def main() -> int:
    """Take all pictures."""
    chromium = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if chromium is None:
        print("Chromium is not here: apt-get install chromium", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serving() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        for dark in (False, True):
            with looking(browser, url, dark=dark) as page:
                compare(page)
                save(page, "dark" if dark else "light")
        with looking(browser, url) as page:
            save(page, "map")
            draw(page, [(0.07, 0.3), (0.2, 0.25), (0.3, 0.4), (0.2, 0.65), (0.08, 0.55)])
            save(page, "lasso")
        with looking(browser, url) as page:
            page.get_by_role("tab", name="Plots").click()
            page.get_by_label("Plot", exact=True).select_option("heatmap")
            page.wait_for_selector(".figure image")
            save(page, "plots")
            page.get_by_role("tab", name="Trajectory").click()
            page.get_by_role("button", name="Learn the trajectory").click()
            page.wait_for_selector(".trajectory")
            save(page, "trajectory")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
