"""What a person sees and does on the page, in the words of the tests."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import ConsoleMessage, Download, Locator, Page, Request, expect
from tests.explorer.pictures import pixels_of

__all__ = ["Explorer", "pixels_of"]

TOLERANCE = 6


class Explorer:
    """The page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._watch)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def open(self, address: str = "") -> None:
        """Go to the page and wait for its first map."""
        self.page.goto(f"{self.url}/{address}")
        self.page.wait_for_selector("canvas[data-drawn]")
        expect(self.page.locator("footer .dot.connected")).to_be_visible()

    def canvas(self, number: int = 1) -> Locator:
        return self.page.locator("main canvas").nth(number - 1)

    def shows(self, title: str, number: int = 1) -> None:
        """Wait until a map is coloured by something."""
        expect(self.canvas(number)).to_have_attribute("data-shows", title)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def legend(self, number: int = 1) -> Locator:
        return self.page.locator(".map").nth(number - 1).locator(".legend")

    def noted(self, text: str) -> None:
        """A note says it, whatever other notes are shown."""
        expect(self.page.locator(".note").filter(has_text=text).first).to_be_visible()

    def footer(self, text: str) -> None:
        expect(self.page.locator("footer")).to_contain_text(text)

    def colour_by(self, name: str, number: int = 1) -> None:
        """Choose the colours in the title of a map."""
        host = self.page.locator(".map").nth(number - 1)
        host.get_by_title("Choose the colours").click()
        host.locator(".menu").get_by_role("button", name=name, exact=True).click()

    def count(self, colour: str, number: int = 1, *, opacity: float = 1.0) -> int:
        """Count the pixels of a map that have a colour, painted over the background as points are.

        Points let some of the background through, which legends and names do not.
        """
        image = pixels_of(self.canvas(number).screenshot())
        background = image[image.shape[0] // 3, 3]
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        alpha = 0.85 * opacity
        blended = wanted * alpha + background * (1 - alpha)
        return int((np.abs(image - blended).max(axis=2) <= TOLERANCE).sum())

    def point(self, x: float, y: float, number: int = 1) -> tuple[float, float]:
        """Turn shares of a map's width and height into a place on the page."""
        box = self.canvas(number).bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def draw_box(self, left: float, top: float, right: float, bottom: float, *, key: str | None = None) -> None:
        """Draw a rectangle on the first map."""
        self.page.get_by_title("Rectangle: draw a box around cells").click()
        mouse = self.page.mouse
        mouse.move(*self.point(left, top))
        if key:
            self.page.keyboard.down(key)
        mouse.down()
        mouse.move(*self.point((left + right) / 2, (top + bottom) / 2), steps=4)
        mouse.move(*self.point(right, bottom), steps=4)
        mouse.up()
        if key:
            self.page.keyboard.up(key)

    def draw_lasso(self, x: float, y: float, radius: float) -> None:
        """Draw a circle on the first map; sizes are shares of its width."""
        self.page.get_by_title("Lasso: draw around cells").click()
        cx, cy = self.point(x, y)
        box = self.canvas().bounding_box()
        assert box is not None
        r = radius * box["width"]
        self.page.mouse.move(cx + r, cy)
        self.page.mouse.down()
        for i in range(1, 33):
            self.page.mouse.move(cx + r * math.cos(i * math.pi / 16), cy + r * math.sin(i * math.pi / 16))
        self.page.mouse.up()

    def set_row(self, name: str) -> Locator:
        return self.page.locator(".set", has=self.page.get_by_role("button", name=name, exact=True))

    def compare(self, a: str) -> None:
        """Make A of a set, and compare it with the rest."""
        self.set_row(a).hover()
        self.page.keyboard.press("a")
        expect(self.page.locator(".box.A")).to_contain_text(a)
        self.page.keyboard.press("c")
        expect(self.page.locator(".volcano")).to_be_visible()

    def rows(self) -> list[list[str]]:
        """Return the rows of the table that are in the page."""
        return [
            [cell.strip() for cell in row.split("\t")]
            for row in self.page.locator(".table tbody tr:not(.space)").all_inner_texts()
        ]

    def rows_shown(self, text: str) -> Locator:
        """Return the rows of the table in which a cell has just this text."""
        return self.page.locator(".table tbody tr", has=self.page.get_by_text(text, exact=True))

    def download(self, press: Locator, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            press.click()
        return saved(waiting.value, folder)

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(value)

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)


def saved(download: Download, folder: Path) -> Path:
    path = folder / download.suggested_filename
    download.save_as(path)
    return path
