import os
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.end_to_end.browser import CASTLE, CHROMEDRIVER, CHROMIUM, MISSING, draw, open_page, result_ids, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING)]

SHOWN = "[...document.querySelectorAll('#grid li')].map(item => item.dataset.id).join()"
SETTLED = "!document.getElementById('grid').classList.contains('stale')"


@pytest.fixture(scope="module")
def artifacts():
    folder = Path(os.environ.get("SVDRAW_ARTIFACTS", "build/artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(deployment, tmp_path):
    with open_page(deployment.url, tmp_path) as browser:
        yield browser
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def press(page, name):
    page.find_element(By.ID, name).click()


def wait_for_results(page, count):
    wait_for(page, f"{SETTLED} && document.querySelectorAll('#grid li').length === {count}")


def slide(page, name, value):
    page.execute_script(
        "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def ink(page):
    """Share of the canvas that is not white."""
    return page.execute_script(
        "const c = document.getElementById('canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let dark = 0; for (let i = 0; i < d.length; i += 4) dark += d[i] < 128; return dark / (d.length / 4)"
    )


def test_strokes_bring_results_and_each_one_refines_them(page, artifacts):
    assert result_ids(page) == []
    draw(page, CASTLE[:1])
    wait_for_results(page, 24)
    first = result_ids(page)
    draw(page, CASTLE[1:])
    wait_for(page, f"{SETTLED} && document.querySelector('#grid li').dataset.id")
    wait_for(page, "document.getElementById('latency').textContent.includes('ms')")
    wait_for(page, f"{SHOWN} !== '{','.join(first)}'")
    wait_for(page, "[...document.querySelectorAll('#grid img')].every(i => i.complete && i.naturalWidth)")
    page.save_screenshot(artifacts / "page.png")


def test_undo_redo_and_clear(page):
    draw(page, CASTLE[:1])
    wait_for_results(page, 24)
    one, one_ink = result_ids(page), ink(page)
    draw(page, CASTLE[1:3])
    two_ink = ink(page)
    assert two_ink > one_ink
    press(page, "undo")
    press(page, "undo")
    assert ink(page) == pytest.approx(one_ink, abs=1e-6)
    wait_for(page, f"{SHOWN} === '{','.join(one)}'")
    press(page, "redo")
    assert ink(page) > one_ink
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.CONTROL, "z")
    assert ink(page) == pytest.approx(one_ink, abs=1e-6)
    press(page, "clear")
    wait_for(page, "document.querySelectorAll('#grid li').length === 0")
    assert ink(page) == 0
    assert page.find_element(By.ID, "empty").is_displayed()
    assert not page.find_element(By.ID, "undo").is_enabled()


def test_clearing_right_after_a_stroke_leaves_nothing(page):
    page.execute_script(
        "const canvas = document.getElementById('canvas'), box = canvas.getBoundingClientRect();"
        "canvas.setPointerCapture = () => {};"
        "const send = (name, x) => canvas.dispatchEvent(new PointerEvent(name,"
        " {pointerId: 1, button: 0, clientX: box.left + x, clientY: box.top + 100, bubbles: true}));"
        "send('pointerdown', 50); send('pointermove', 150); send('pointermove', 200); send('pointerup', 200);"
        "document.getElementById('clear').click()"
    )
    assert ink(page) == 0
    time.sleep(1)  # longer than any search that was on its way
    assert result_ids(page) == []
    assert page.find_element(By.ID, "empty").is_displayed()


def test_eraser(page):
    draw(page, CASTLE[:2])
    before = ink(page)
    page.find_element(By.TAG_NAME, "body").send_keys("e")
    assert page.find_element(By.ID, "eraser").get_attribute("aria-pressed") == "true"
    draw(page, CASTLE[:1])
    assert ink(page) < before / 2


def test_sliders(page):
    draw(page, CASTLE)
    wait_for_results(page, 24)
    slide(page, "limit", 7)
    wait_for_results(page, 7)
    slide(page, "dimensions", 3)
    wait_for(page, "document.getElementById('status').textContent.includes(' 3 dimensions')")
    assert len(page.find_elements(By.CSS_SELECTOR, "#spectrum .used")) == 3
    assert "3 of" in page.find_element(By.ID, "spectrum-caption").text


def test_upload(page, deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    page.find_element(By.ID, "file").send_keys(str(drawing))
    wait_for_results(page, 24)
    assert ink(page) > 0


@pytest.mark.parametrize(("name", "size", "dark"), [("phone", (400, 860), False), ("dark", (1280, 900), True)])
def test_other_looks(deployment, tmp_path, artifacts, name, size, dark):
    with open_page(deployment.url, tmp_path, size=size) as page:
        if dark:
            press(page, "theme")
            assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
        draw(page, CASTLE, scale=1.2)
        wait_for_results(page, 24)
        width = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, "the page scrolls sideways"
        page.save_screenshot(artifacts / f"page-{name}.png")
