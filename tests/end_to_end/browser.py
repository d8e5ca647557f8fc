"""Drives the page in headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
LOADED = "document.getElementById('facts').textContent.includes('photos')"
SETTLED = "!document.getElementById('grid').classList.contains('stale')"
MISSING = "needs a browser: on Debian, apt-get install chromium chromium-driver"

CASTLE = [
    [(-90, 80), (-90, -40), (-90, -60), (-70, -60), (-70, -40), (-50, -40), (-50, -60), (-30, -60), (-30, -20)],
    [(-30, -20), (-15, -20), (-15, -5), (0, -5), (0, -20), (15, -20), (15, -5), (30, -5), (30, -20)],
    [(30, -20), (30, -60), (50, -60), (50, -40), (70, -40), (70, -60), (90, -60), (90, 80), (-90, 80)],
    [(-20, 80), (-20, 40), (0, 25), (20, 40), (20, 80)],
    [(-65, -10), (-55, -10), (-55, 10), (-65, 10), (-65, -10)],
    [(55, -10), (65, -10), (65, 10), (55, 10), (55, -10)],
]


@contextmanager
def open_page(url: str, profile: Path, *, phone: tuple[int, int] | None = None) -> Iterator[Chrome]:
    """Opens a page in a fresh browser and closes the browser afterwards; ``phone`` is the size of one to emulate."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(CHROMEDRIVER))
    try:
        if phone:  # a window cannot be this narrow
            metrics = {"width": phone[0], "height": phone[1], "deviceScaleFactor": 2, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        browser.get(url)
        yield browser
    finally:
        browser.quit()


def wait_for(browser: Chrome, condition: str, seconds: float = 90) -> None:
    """Waits until a JavaScript expression is true."""
    WebDriverWait(browser, seconds, 0.05).until(lambda b: b.execute_script(f"return Boolean({condition})"), condition)


def watch(browser: Chrome) -> None:
    """Counts what the page has under way from now on: pictures, requests, their answers and timers.

    See ``wait_until_idle``.
    """
    browser.execute_script(
        "window.underWay = 0;"
        "const count = (promise) => { underWay++; return promise.finally(() => underWay--) };"
        "const send = window.fetch, read = Response.prototype.json, write = OffscreenCanvas.prototype.convertToBlob;"
        "const later = window.setTimeout, clear = window.clearTimeout, timers = new Set();"
        "window.fetch = (...given) => count(send(...given));"
        "Response.prototype.json = function () { return count(read.call(this)) };"
        "OffscreenCanvas.prototype.convertToBlob = function (given) { return count(write.call(this, given)) };"
        "const ended = (timer) => { if (timers.delete(timer)) underWay-- };"
        "window.setTimeout = (call, ...given) => { underWay++;"
        " const timer = later(() => { try { call() } finally { ended(timer) } }, ...given);"
        " timers.add(timer); return timer };"
        "window.clearTimeout = (timer) => { ended(timer); clear(timer) };"
    )


def wait_until_idle(browser: Chrome) -> None:
    """Waits until nothing that the page has begun is under way."""
    wait_for(browser, "underWay === 0")


def draw(browser: Chrome, strokes: list[list[tuple[int, int]]], scale: float = 1.4) -> None:
    """Draws strokes with the mouse; points are pixels from the middle of the canvas."""
    canvas = browser.find_element(By.ID, "canvas")
    for stroke in strokes:
        actions = ActionChains(browser, duration=15)
        (x, y), *rest = [(round(x * scale), round(y * scale)) for x, y in stroke]
        actions.move_to_element_with_offset(canvas, x, y).click_and_hold()
        for target in rest:
            actions.move_by_offset(target[0] - x, target[1] - y)
            x, y = target
        actions.release().perform()


def accessibility_violations(browser: Chrome) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds: rule, impact and elements; once results that a search replaces are no longer faded."""
    wait_for(browser, "[...document.querySelectorAll('#grid')].every(grid => getComputedStyle(grid).opacity === '1')")
    browser.execute_script((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    return [(rule["id"], rule["impact"], [str(node["target"]) for node in rule["nodes"]]) for rule in found]


def result_ids(browser: Chrome) -> list[str]:
    """Ids of the photos shown, best first."""
    return browser.execute_script("return [...document.querySelectorAll('#grid li')].map(item => item.dataset.id)")


def draw_by_touch(browser: Chrome, strokes: list[list[tuple[int, int]]], scale: float = 1.0) -> None:
    """Draws strokes with a finger; points are pixels from the middle of the canvas."""
    box = browser.execute_script("return document.getElementById('canvas').getBoundingClientRect().toJSON()")
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for stroke in strokes:
        points = [{"x": middle[0] + scale * x, "y": middle[1] + scale * y} for x, y in stroke]
        for number, point in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
