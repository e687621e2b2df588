"""Several pages on one experiment: each hears of the others' changes, and no change is lost unseen."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playwright.sync_api import expect
from tests.explorer.conftest import Worker, looking
from tests.explorer.seeing import Explorer


def in_another_program(worker: Worker, operations: list[dict[str, Any]]) -> None:
    """Change the cell sets as the command line does, beside the page."""
    facts = worker.get("/explorer.json")
    url = f"{worker.url}/v2/experiments/{facts['experimentId']}/cellSets"
    request = urllib.request.Request(url, json.dumps(operations).encode(), method="PATCH")
    with ThreadPoolExecutor(1) as thread:  # Playwright's loop runs in this thread
        thread.submit(lambda: urllib.request.urlopen(request, timeout=60).close()).result()


def rename(explorer: Explorer, old: str, new: str) -> None:
    explorer.button(old).dblclick()
    explorer.page.get_by_label(f"New name of {old}").fill(new)
    explorer.page.keyboard.press("Enter")


def deaf(explorer: Explorer) -> None:
    """Keep news from the page: its socket opens, and no event of cell sets comes through."""

    def quiet(socket):
        server = socket.connect_to_server()
        server.on_message(lambda said: "CellSets-" in str(said) or socket.send(said))

    explorer.page.route_web_socket("**/socket.io/**", quiet)


def test_a_page_hears_what_another_page_does(browser, worker: Worker, explorer: Explorer):
    with looking(browser, worker.url) as other:
        other.open()
        explorer.button("T cell").click()
        explorer.page.keyboard.press("n")
        expect(other.set_row("Selection 1")).to_contain_text("85")
        rename(other, "Selection 1", "lymphocytes")
        expect(explorer.set_row("lymphocytes")).to_be_visible()
        explorer.colour_by("Custom cell sets")
        expect(explorer.legend()).to_contain_text("lymphocytes")
        other.page.get_by_title("What to do with lymphocytes").click()
        other.page.get_by_role("button", name="Delete", exact=True).click()
        expect(explorer.set_row("lymphocytes")).to_have_count(0)
        expect(explorer.legend()).not_to_contain_text("lymphocytes")


def test_a_page_hears_of_files_that_change_and_of_other_programs(worker: Worker, explorer: Explorer):
    made = {"key": "k", "name": "by a program", "color": "#aa0000", "rootNode": False, "cellIds": [1, 2, 3]}
    value = {"children": [{"$append": made}]}
    in_another_program(worker, [{"$match": {"query": '$[?(@.key == "scratchpad")]', "value": value}}])
    expect(explorer.set_row("by a program")).to_contain_text("3")
    worker.forget_changes()  # removes the file that the worker keeps them in
    expect(explorer.set_row("by a program")).to_have_count(0)


def test_changes_of_two_pages_at_once_are_both_kept_or_the_second_is_told(browser, worker: Worker, explorer: Explorer):
    explorer.button("T cell").click()
    explorer.page.keyboard.press("n")
    explorer.button("Monocyte").click()
    explorer.page.keyboard.press("n")
    expect(explorer.set_row("Selection 2")).to_be_visible()
    with looking(browser, worker.url) as other:
        deaf(other)
        other.open()
        # different sets: both changes are kept
        rename(explorer, "Selection 1", "first")
        expect(explorer.set_row("first")).to_be_visible()
        rename(other, "Selection 2", "second")
        expect(other.set_row("second")).to_be_visible()
        expect(other.set_row("first")).to_be_visible()
        expect(explorer.set_row("second")).to_be_visible()
        # the same set: the first change stays, and the second page says why its own is not done
        rename(explorer, "first", "theirs")
        expect(explorer.set_row("theirs")).to_be_visible()
        rename(other, "first", "mine")
        other.noted("“rename first” is not done: “theirs” was changed elsewhere at the same time.")
        expect(other.set_row("theirs")).to_be_visible()
        # what was made here and changed there is not taken back over that change
        other.page.keyboard.press("u")
        expect(other.set_row("Selection 2")).to_be_visible()
        other.page.keyboard.press("Shift+u")
        expect(other.set_row("second")).to_be_visible()
        rename(explorer, "second", "third")
        expect(explorer.set_row("third")).to_be_visible()
        other.page.evaluate("window.dispatchEvent(new Event('focus'))")
        expect(other.set_row("third")).to_be_visible()
        other.page.keyboard.press("u")
        other.noted("“rename Selection 2” stays as it is: it was changed elsewhere since")
        names = {item["name"] for item in worker.cell_sets()["Custom cell sets"]["children"]}
        assert {"theirs", "third"} <= names


def test_what_is_pressed_faster_than_the_worker_answers_is_all_done(worker: Worker, explorer: Explorer):
    explorer.page.get_by_title("What to do with Custom cell sets").click()
    explorer.button("Delete the class").click()
    expect(explorer.page.locator("[data-class=scratchpad]")).to_have_count(0)
    explorer.button("T cell").click()
    explorer.page.evaluate(
        "for (let i = 0; i < 3; i++) window.dispatchEvent(new KeyboardEvent('keydown', { key: 'n' }))"
    )
    expect(explorer.page.locator("[data-class=scratchpad] .set")).to_have_count(3)
    assert len(worker.cell_sets()["Custom cell sets"]["children"]) == 3
