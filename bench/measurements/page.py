"""The page in a browser; see bench/page.py."""

import json
import os
import random
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from measurements.command import BenchmarkError
from measurements.running_service import service

__all__ = ["measure_page"]

Point = tuple[float, float]

STEP = 6.0  # pixels between two points of a stroke
PAUSE = 0.008  # seconds between them, beside the time that the browser takes for one
RESTING = 0.5
HOUSE: list[list[Point]] = [
    [(-90, 80), (-90, -20), (90, -20), (90, 80), (-90, 80)],
    [(-100, -20), (0, -90), (100, -20)],
    [(-20, 80), (-20, 30), (20, 30), (20, 80)],
    [(-70, 30), (-70, 0), (-40, 0), (-40, 30), (-70, 30)],
    [(40, 30), (40, 0), (70, 0), (70, 30), (40, 30)],
    [(50, -60), (50, -100), (70, -100), (70, -45)],
]
RECORD = """
window.record = { points: [], lifts: [], searches: [], frames: [], pictures: 0 };
for (const [name, kept] of [["pointermove", record.points], ["pointerup", record.lifts]])
  addEventListener(name, (event) => event.buttons + (name === "pointerup") && kept.push(event.timeStamp), true);
let drawn = 0, encoded = 0;
const write = OffscreenCanvas.prototype.convertToBlob, send = window.fetch;
OffscreenCanvas.prototype.convertToBlob = async function (given) {
  drawn = performance.now();
  const blob = await write.call(this, given);
  encoded = performance.now();
  return blob;
};
window.fetch = async (path, options) => {
  if (!String(path).startsWith("v1/search")) return send(path, options);
  const search = { drawn, encoding: encoded - drawn, began: performance.now(), bytes: options.body.size };
  record.searches.push(search);
  options.signal?.addEventListener("abort", () => (search.abandoned = search.ended === undefined));
  const response = await send(path, options);
  search.ended = performance.now();
  search.service = Number(/total;dur=([\\d.]+)/.exec(response.headers.get("Server-Timing"))?.[1]);
  search.status = response.status;
  return response;
};
const shown = () => {
  const answered = record.searches.filter((search) => search.ended && !search.abandoned).at(-1);
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // answers after the frame was painted
    channel.port1.onmessage = () => record.frames.push({ drawn: answered?.drawn, at: performance.now() });
    channel.port2.postMessage(null);
  });
};
new MutationObserver(shown).observe(document.getElementById("latency"), { childList: true });
new PerformanceObserver((list) => {
  const fetched = (entry) => entry.name.includes("/thumbnail") && entry.transferSize;
  record.pictures += list.getEntries().filter(fetched).length;
}).observe({ type: "resource" });
"""


def measure_page(options: Namespace) -> None:
    """Draws, and prints the figures as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = shutil.copytree(options.gallery, folder / "gallery")
        with service(gallery, folder, anonymous="read") as running, _browser(folder / "profile") as browser:
            browser.get(running.url)
            _wait(browser, "document.getElementById('facts').textContent.includes('photos')")
            browser.execute_script(RECORD)
            chosen = random.Random(0)
            _draw(browser, chosen)  # the browser and the service warm up
            rows = [_measured(browser, chosen) for _ in range(options.drawings)]
    report = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "drawings": options.drawings} | _figures(rows)
    text = json.dumps(report, indent=2, default=lambda value: round(float(value), 3))
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _measured(browser: Chrome, chosen: random.Random) -> dict[str, Any]:
    """Records one drawing; ``rests`` are the times of the last points before the pen rested."""
    browser.execute_script("for (const kept of Object.values(record)) if (Array.isArray(kept)) kept.length = 0")
    browser.execute_script("record.pictures = 0")
    rests, seconds = _draw(browser, chosen)
    return browser.execute_script("return record") | {"rests": rests, "seconds": seconds}


def _draw(browser: Chrome, chosen: random.Random) -> tuple[list[float], float]:
    box = browser.execute_script("return document.getElementById('canvas').getBoundingClientRect().toJSON()")
    scale, dx, dy = chosen.uniform(0.8, 1.6), chosen.uniform(-20, 20), chosen.uniform(-20, 20)
    middle = (box["x"] + box["width"] / 2 + dx, box["y"] + box["height"] / 2 + dy)
    rests, drawing = [], 0.0
    for number, stroke in enumerate(HOUSE):
        points = [(middle[0] + scale * x, middle[1] + scale * y) for x, y in _points(stroke)]
        _mouse(browser, "mousePressed", points[0])
        started = time.perf_counter()
        for point in points[1:]:
            _mouse(browser, "mouseMoved", point)
            time.sleep(PAUSE)
        drawing += time.perf_counter() - started
        if number % 2:
            rests.append(browser.execute_script("return window.record.points.at(-1) ?? 0"))
            time.sleep(RESTING)
        _mouse(browser, "mouseReleased", points[-1])
        time.sleep(RESTING)
    browser.execute_script("document.getElementById('clear').click()")
    return rests, drawing


def _points(stroke: Sequence[Point]) -> list[Point]:
    found = [stroke[0]]
    for (x, y), (u, v) in pairwise(stroke):
        count = max(1, round(float(np.hypot(u - x, v - y)) / STEP))
        found += [(x + (u - x) * part / count, y + (v - y) * part / count) for part in range(1, count + 1)]
    return found


def _mouse(browser: Chrome, kind: str, point: Point) -> None:
    event = {"type": kind, "x": point[0], "y": point[1], "button": "left", "clickCount": 1}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", event | {"buttons": int(kind != "mouseReleased")})


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    searches = [search for row in rows for search in row["searches"]]
    answered = [search for search in searches if search.get("status") == 200]
    if not answered:
        raise BenchmarkError("the page has shown no photos")
    largest = max(search["bytes"] for search in answered) / 2
    kinds = {
        "finished": [search for search in answered if search["bytes"] > largest],
        "unfinished": [search for search in answered if search["bytes"] <= largest],
    }
    return {
        "lifted_ms": _spread(_until_painted(rows, "lifts")),
        "resting_ms": _spread(_until_painted(rows, "rests")),
        "searches_per_second_of_drawing": len(searches) / sum(row["seconds"] for row in rows),
        "abandoned": sum(search.get("abandoned", False) for search in searches),
        "statuses": sorted({search.get("status", 0) for search in searches}),
        "searches": len(searches),
        "thumbnails": sum(row["pictures"] for row in rows),
        "bytes_p50": {name: np.median([each["bytes"] for each in some]) for name, some in kinds.items() if some},
        "encoding_ms": _spread([search["encoding"] for search in answered]),
        "request_ms": _spread([search["ended"] - search["began"] for search in answered]),
        "service_ms": _spread([search["service"] for search in answered]),
    }


def _until_painted(rows: Sequence[dict[str, Any]], moments: str) -> list[float]:
    """Milliseconds from each moment to the first frame that shows a sketch which was complete at that moment."""
    found = []
    for row in rows:
        for moment in row[moments]:
            later = [frame["at"] for frame in row["frames"] if (frame["drawn"] or 0) >= moment]
            found += [later[0] - moment] if later else [float("inf")]
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(values, [50, 95], method="lower")
    return {"count": len(values), "p50": p50, "p95": p95}


@contextmanager
def _browser(profile: Path) -> Iterator[Chrome]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None or shutil.which("chromedriver") is None:
        raise BenchmarkError("there is no browser; on Debian: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    browser = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def _wait(browser: Chrome, condition: str) -> None:
    WebDriverWait(browser, 60, 0.05).until(lambda each: each.execute_script(f"return {condition}"))
