import base64
import re
import shutil
from contextlib import closing

import httpx
import pytest
from PIL import Image, ImageDraw
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from index.gallery.directory import Gallery
from index.jobs import compact
from tests.end_to_end.browser import (
    CASTLE,
    CHROMEDRIVER,
    CHROMIUM,
    LOADED,
    MISSING,
    SETTLED,
    accessibility_violations,
    draw,
    draw_by_touch,
    open_page,
    result_ids,
    wait_for,
    wait_until_idle,
    watch,
)
from tests.service.access.test_keys import line
from tests.service.conftest import serving, wait_until
from training.model.bundle import set_calibration
from training.model.calibration import Calibration, Coefficients

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING),
]

SHOWN = "[...document.querySelectorAll('#grid li')].map(item => item.dataset.id).join()"


def photographed_drawing(folder):
    """A photo, higher than wide, of a page with a castle on it."""
    photo = Image.new("RGB", (600, 800), (60, 45, 30))
    pen = ImageDraw.Draw(photo)
    pen.rectangle((60, 60, 540, 740), fill=(235, 235, 230))
    for stroke in CASTLE:
        pen.line([(300 + 2 * x, 400 + 2 * y) for x, y in stroke], (40, 50, 140), 5)
    photo.save(folder / "photo.jpg")
    return folder / "photo.jpg"


def press(page, name):
    page.find_element(By.ID, name).click()


def wait_for_results(page, count):
    wait_for(page, f"{SETTLED} && document.querySelectorAll('#grid li').length === {count}")


def open_first(page):
    page.execute_script("document.querySelector('#grid button').click()")
    wait_for(page, "document.getElementById('detail').open")


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
    messages = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("422" in message for message in messages), messages  # a browser reports that itself
    assert not page.find_element(By.ID, "undo").is_enabled()


def test_clearing_right_after_a_stroke_leaves_nothing(page):
    watch(page)
    page.execute_script(
        "const canvas = document.getElementById('canvas'), box = canvas.getBoundingClientRect();"
        "canvas.setPointerCapture = () => {};"
        "const send = (name, x) => canvas.dispatchEvent(new PointerEvent(name,"
        " {pointerId: 1, button: 0, clientX: box.left + x, clientY: box.top + 100, bubbles: true}));"
        "send('pointerdown', 50); send('pointermove', 150); send('pointermove', 200); send('pointerup', 200);"
        "document.getElementById('clear').click()"
    )
    assert ink(page) == 0
    wait_until_idle(page)
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


def test_copies_and_exact_search_can_be_chosen(page):
    draw(page, CASTLE)
    wait_for_results(page, 24)
    page.execute_script(
        "window.asked = []; const send = window.fetch;"
        "window.fetch = (path, options) => { asked.push(path); return send(path, options) }"
    )
    press(page, "unique")
    wait_for(page, "asked.some(path => path.includes('unique=true'))")
    assert not page.find_element(By.ID, "exact").is_displayed()  # this gallery is exact
    page.execute_script("document.getElementById('exact-choice').hidden = false")
    press(page, "exact")
    wait_for(page, "asked.some(path => path.includes('recall=1'))")
    wait_for_results(page, 24)


def test_upload(page, deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    page.find_element(By.ID, "file").send_keys(str(drawing))
    wait_for_results(page, 24)
    assert ink(page) > 0


def test_white_strokes_on_a_transparent_ground_are_drawn_black(page, tmp_path):
    layer = Image.new("RGBA", (300, 200), (255, 255, 255, 0))
    ImageDraw.Draw(layer).line([(40, 160), (150, 30), (260, 160), (40, 160)], "white", 8)
    layer.save(tmp_path / "white.png")
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "white.png"))
    wait_for_results(page, 24)
    assert ink(page) > 0


def test_what_shows_no_lines_is_told_kindly(deployment, tmp_path):
    with open_page(deployment.url, tmp_path) as page:  # whose log has the answers with status 422
        wait_for(page, LOADED)
        draw(page, [[(-40, 0), (40, 0)]])
        wait_for_results(page, 24)
        press(page, "eraser")
        draw(page, [[(-60, y), (60, y)] for y in (-8, 0, 8)])
        wait_for(page, "document.getElementById('status').textContent.startsWith('No lines can be seen')")
        wait_for_results(page, 0)
        assert page.find_element(By.ID, "empty").is_displayed()


def test_a_result_up_close(page, artifacts):
    watch(page)
    draw(page, CASTLE)
    wait_until_idle(page)
    wait_for_results(page, 24)
    shown = result_ids(page)
    open_first(page)
    wait_for(page, "document.getElementById('detail').open")
    wait_for(page, "document.getElementById('detail-image').naturalWidth > 0")
    bars = "document.querySelectorAll('#detail-modes rect').length"
    wait_for(page, f"{bars} === Number(document.getElementById('dimensions').value)")
    caption = page.find_element(By.ID, "detail-caption").text
    score = page.find_element(By.ID, "detail-facts").text.split()[1].rstrip(",")
    [added, given] = re.search(r"of (\S+)\. (\S+) is the same for all", caption).groups()
    assert float(added) + float(given) == pytest.approx(float(score), abs=0.02)
    credit = page.find_element(By.ID, "detail-metadata")
    assert "author: OpenMoji" in credit.text
    links = [link.get_attribute("href") for link in credit.find_elements(By.TAG_NAME, "a")]
    assert links == ["https://openmoji.org/", "https://creativecommons.org/licenses/by-sa/4.0/"]
    page.save_screenshot(artifacts / "page-detail.png")
    press(page, "detail-more")
    wait_for(page, f"!document.getElementById('detail').open && {SETTLED} && {SHOWN} !== '{','.join(shown)}'")
    assert shown[0] not in result_ids(page)
    assert "more like 1" in page.find_element(By.ID, "status").text
    page.find_element(By.CSS_SELECTOR, "#marks button").click()
    wait_for(page, f"{SHOWN} === '{','.join(shown)}'")


def mark(page, place, kind):
    """Marks the photo at a place of the results with the keyboard; returns its id."""
    button = page.find_elements(By.CSS_SELECTOR, f"#grid .mark.{kind}")[place]
    identifier = page.execute_script("return arguments[0].parentElement.dataset.id", button)
    page.execute_script("arguments[0].focus()", button)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(page, f"{SETTLED} && !document.querySelector('#grid li[data-id=\"{identifier}\"]')")
    return identifier


def chips(page):
    return [each.get_attribute("aria-label") for each in page.find_elements(By.CSS_SELECTOR, "#marks button")]


def test_marked_photos_refine_the_search(page, artifacts):
    watch(page)
    draw(page, CASTLE)
    wait_until_idle(page)
    wait_for_results(page, 24)
    shown = result_ids(page)
    liked = mark(page, 2, "more")
    focused = "document.activeElement.closest('#grid li')"
    wait_for(page, f"document.activeElement.className === 'mark more' && {focused}")  # so that one can go on
    assert page.execute_script(f"return [...{focused}.parentElement.children].indexOf({focused})") == 2
    disliked = mark(page, 0, "less")
    wait_until_idle(page)
    assert not {liked, disliked} & set(result_ids(page))
    assert result_ids(page) != shown
    assert "more like 1, less like 1" in page.find_element(By.ID, "status").text
    assert [label.split(" like ")[0] for label in chips(page)] == ["Remove: more", "Remove: less"]
    wait_for(page, "[...document.querySelectorAll('img')].every(i => !i.src || (i.complete && i.naturalWidth))")
    page.save_screenshot(artifacts / "page-marks.png")
    page.find_element(By.CSS_SELECTOR, "#marks .less").send_keys(Keys.ENTER)
    wait_for(page, f"{SETTLED} && document.querySelector('#grid li[data-id=\"{disliked}\"]')")
    assert page.execute_script("return document.activeElement.matches('#marks .more')")
    press(page, "clear")  # the drawing alone
    wait_until_idle(page)
    assert liked not in result_ids(page)
    assert len(result_ids(page)) == 24
    press(page, "unmark")
    wait_until_idle(page)
    assert (result_ids(page), chips(page)) == ([], [])
    assert page.find_element(By.ID, "empty").is_displayed()


def test_marking_photos_as_unlike_alone_finds_nothing(page):
    watch(page)
    draw(page, CASTLE)
    wait_until_idle(page)
    mark(page, 0, "less")
    press(page, "clear")
    wait_until_idle(page)
    assert result_ids(page) == []
    draw(page, CASTLE)
    wait_until_idle(page)
    assert len(result_ids(page)) == 24
    assert len(chips(page)) == 1


def test_download(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    draw(page, CASTLE)
    wait_for_results(page, 24)
    open_first(page)
    press(page, "detail-download")
    wait_until(lambda: list(tmp_path.glob("*.png")))
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any(name.endswith("/image?original=true") for name in loaded)  # the file, not what is shown of it


def test_shortcuts(page):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("?")
    wait_for(page, "document.getElementById('shortcuts').open")
    body.send_keys(Keys.ESCAPE)
    wait_for(page, "!document.getElementById('shortcuts').open")
    before = page.execute_script("return Number(document.getElementById('size').value)")
    body.send_keys("]")
    assert page.execute_script("return Number(document.getElementById('size').value)") == before + 2


def test_pen_pressure(page):
    widths = {}
    for pressure in (0.1, 0.9):
        page.execute_script(
            "const canvas = document.getElementById('canvas'), box = canvas.getBoundingClientRect();"
            "canvas.setPointerCapture = () => {};"
            "const send = (name, x) => canvas.dispatchEvent(new PointerEvent(name, {pointerId: 1, button: 0,"
            " pointerType: 'pen', pressure: arguments[0], clientX: box.left + x, clientY: box.top + 100}));"
            "send('pointerdown', 50); send('pointermove', 150); send('pointerup', 150);",
            pressure,
        )
        widths[pressure] = ink(page)
        press(page, "clear")
    assert widths[0.9] > 1.5 * widths[0.1]


def test_paste(page, deployment):
    drawing = next((deployment.data / "sketch" / deployment.unseen[0]).iterdir())
    page.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer(); data.items.add(new File([bytes], 'a.png', {type: 'image/png'}));"
        "dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))",
        base64.b64encode(drawing.read_bytes()).decode(),
    )
    wait_for_results(page, 24)
    assert ink(page) > 0


def test_dark(page, artifacts):
    press(page, "theme")
    assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    draw(page, CASTLE)
    wait_for_results(page, 24)
    page.save_screenshot(artifacts / "page-dark.png")


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone(deployment, tmp_path, artifacts, width):
    with open_page(deployment.url, tmp_path, phone=(width, 780)) as page:
        wait_for(page, LOADED)
        assert page.execute_script("return innerWidth") == width
        draw_by_touch(page, CASTLE)
        wait_for_results(page, 24)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        assert page.execute_script("return scrollY") == 0, "drawing scrolls"
        assert page.find_element(By.ID, "camera").accessible_name == "Photograph a drawing"
        page.find_element(By.ID, "photo").send_keys(str(photographed_drawing(tmp_path)))
        wait_for(page, "document.getElementById('undo').disabled === false")
        wait_for_results(page, 24)
        page.save_screenshot(artifacts / f"page-phone-{width}.png")
        assert not page.find_element(By.ID, "limit").is_displayed(), "options leave no room for photos"
        page.find_element(By.CSS_SELECTOR, "#controls summary").click()
        slide(page, "limit", 8)
        wait_for_results(page, 8)
        assert accessibility_violations(page) == []
        for kind in ("more", "less", "more"):
            page.find_element(By.CSS_SELECTOR, f"#grid .mark.{kind}").click()
            wait_for_results(page, 8)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        assert accessibility_violations(page) == []
        page.save_screenshot(artifacts / f"page-phone-{width}-marks.png")
        open_first(page)
        wait_for(page, "document.querySelectorAll('#detail-modes rect').length > 0")
        page.save_screenshot(artifacts / f"page-phone-{width}-detail.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(page, theme):
    if theme == "dark":
        press(page, "theme")
    assert accessibility_violations(page) == []
    watch(page)
    draw(page, CASTLE)
    wait_until_idle(page)
    wait_for_results(page, 24)
    for kind in ("more", "less"):
        mark(page, 1, kind)
    for dialog in (None, "detail", "shortcuts"):
        if dialog == "detail":
            open_first(page)
        elif dialog:
            page.execute_script("document.querySelector('dialog[open]').close()")
            press(page, "help")
        wait_for(page, "document.getAnimations().length === 0")  # colours fade in
        assert accessibility_violations(page) == []


def test_a_service_with_keys(deployment, tmp_path, artifacts):
    keys = tmp_path / "keys"
    keys.write_text(line("page", "read", "let-me-in"))
    with serving(gallery=deployment.gallery, keys=keys) as url, open_page(url, tmp_path / "profile") as page:
        wait_for(page, "document.getElementById('key-dialog').open")
        page.save_screenshot(artifacts / "page-key.png")
        page.find_element(By.ID, "key").send_keys("let-me-in", Keys.ENTER)
        wait_for(page, LOADED)
        draw(page, CASTLE)
        wait_for_results(page, 24)
        wait_for(page, "[...document.querySelectorAll('#grid img')].every(i => i.complete && i.naturalWidth)")


def test_documentation(deployment, tmp_path):
    with open_page(f"{deployment.url}/docs", tmp_path) as page:
        wait_for(page, "document.querySelectorAll('.opblock').length > 10")
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(("offset", "unlikely"), [(-20, True), (20, False)])
def test_photos_that_hardly_show_what_was_drawn_are_grey(deployment, tmp_path, offset, unlikely):
    gallery = shutil.copytree(deployment.gallery, tmp_path / "gallery")
    everywhere = Coefficients(dimensions=1, slope=0, size=0, offset=offset)
    set_calibration(gallery / "model", Calibration(coefficients=(everywhere,), classes=10, queries=10))
    with serving(gallery=gallery) as url, open_page(url, tmp_path / "profile") as page:
        wait_for(page, LOADED)
        draw(page, CASTLE)
        wait_for(page, f"{SETTLED} && document.querySelectorAll('#grid li').length > 0")
        grey = len(page.find_elements(By.CSS_SELECTOR, "#grid li.unlikely"))
        assert grey == (len(page.find_elements(By.CSS_SELECTOR, "#grid li")) if unlikely else 0)
        assert ("probably none shows what you drew" in page.find_element(By.ID, "status").text) == unlikely
        title = page.find_element(By.CSS_SELECTOR, "#grid .photo").get_attribute("title")
        assert title.endswith("relevance 0%" if unlikely else "relevance 100%")


def test_the_page_says_how_many_parts_of_the_gallery_are_missing(deployment, tmp_path):
    """The answers of one gallery are made those of four shards, of which some are silent."""
    answers = (
        "const read = Response.prototype.json; window.silent = [0, 2];"
        "Response.prototype.json = async function () { const answer = await read.call(this);"
        " if (answer.results) answer.missing_shards = silent; if (answer.spectrum) answer.shards = 4; return answer };"
    )
    with open_page("about:blank", tmp_path) as page:
        page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": answers})
        page.get(deployment.url)
        wait_for(page, LOADED)
        draw(page, CASTLE[:1])
        wait_for_results(page, 24)
        status = page.find_element(By.ID, "status")
        said = "Some photos are missing, because 2 of the gallery's 4 parts did not answer. 24 of "
        assert status.text.startswith(said)
        assert status.get_attribute("class") == "problem"
        page.execute_script("silent = []")
        draw(page, CASTLE[1:2])
        wait_for(page, "document.getElementById('status').textContent.startsWith('24 of ')")
        assert status.get_attribute("class") == ""


def test_the_page_says_from_how_many_drawings_the_order_is_learned(deployment, tmp_path):
    gallery = tmp_path / "gallery"
    shutil.copytree(deployment.gallery, gallery, ignore=shutil.ignore_patterns("queries.sqlite"))
    for seen in (False, True):
        with serving(gallery=gallery) as url, open_page(url, tmp_path / f"profile {seen}") as page:
            wait_for(page, LOADED)
            assert ("learned from 1 drawing" in page.find_element(By.ID, "spectrum-caption").text) == seen
            photo = photographed_drawing(tmp_path).read_bytes()
            response = httpx.post(f"{url}/v1/search", content=photo, headers={"Content-Type": "image/jpeg"}, timeout=60)
            assert response.status_code == 200, response.text
        with closing(Gallery.open(gallery, write=True)) as opened:
            compact(opened)
