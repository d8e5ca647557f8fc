"""The page: colours of photos, and the search by a picture of one's own."""

import base64

import httpx
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.end_to_end.browser import (
    CASTLE,
    CHROMEDRIVER,
    CHROMIUM,
    LOADED,
    MISSING,
    SETTLED,
    accessibility_violations,
    draw,
    open_page,
    result_ids,
    wait_for,
    wait_until_idle,
    watch,
)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING)]

CHOSEN = "!document.getElementById('own-search').hidden"


@pytest.fixture
def picture(tmp_path):
    """A picture that is twice as wide as it is high: red at the left, blue at the right."""
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (200, 0, 400, 200))
    image.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def as_file(picture):
    """JavaScript that has the picture in a variable ``data``, as it is pasted or dropped."""
    return (
        f"const bytes = Uint8Array.from(atob('{base64.b64encode(picture.read_bytes()).decode()}'),"
        " (c) => c.charCodeAt(0)); const data = new DataTransfer();"
        " data.items.add(new File([bytes], 'a.png', {type: 'image/png'}));"
    )


def choose(page, picture):
    page.find_element(By.ID, "own-file").send_keys(str(picture))
    wait_for(page, CHOSEN)


def colors_of(deployment, identifiers):
    return [httpx.get(f"{deployment.url}/v1/photos/{each}", timeout=60).json()["colors"] for each in identifiers]


def test_photos_are_filtered_by_colours_with_the_keyboard(page, deployment, artifacts):
    draw(page, CASTLE)
    wait_for(page, f"{SETTLED} && document.querySelectorAll('#grid li').length === 24")
    everything = result_ids(page)
    names = httpx.get(f"{deployment.url}/v1/gallery", timeout=60).json()["colors"]
    swatches = page.find_elements(By.CSS_SELECTOR, "#colors input")
    assert [each.accessible_name for each in swatches] == names
    for count, name in enumerate(("red", "blue"), start=1):
        swatches[names.index(name)].send_keys(Keys.SPACE)
        wait_for(page, SETTLED)
        found = colors_of(deployment, result_ids(page))
        assert found
        assert all(set(each) & {"red", "blue"} for each in found)
        assert any("blue" in each and "red" not in each for each in found) == (count == 2)
    page.save_screenshot(artifacts / "page-colors.png")
    for name in ("red", "blue"):
        swatches[names.index(name)].send_keys(Keys.SPACE)
    wait_for(page, SETTLED)
    assert result_ids(page) == everything
    swatches[0].send_keys(Keys.SPACE)
    wait_for(page, SETTLED)
    assert accessibility_violations(page) == []


def test_a_gallery_without_colours_has_no_swatches(page):
    assert page.find_element(By.ID, "colors").is_displayed()
    page.execute_async_script(
        "const done = arguments[0]; import('/static/colors.js').then(({ Swatches }) =>"
        " { new Swatches(document.getElementById('colors')).show([]); done() })"
    )
    assert not page.find_element(By.ID, "colors").is_displayed()


def test_a_picture_of_ones_own_finds_photos_like_it(page, picture, artifacts):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("p")
    assert page.find_element(By.ID, "own").is_displayed()
    assert accessibility_violations(page) == []
    choose(page, picture)
    assert page.switch_to.active_element.get_attribute("id") == "own-search"
    assert accessibility_violations(page) == []
    page.save_screenshot(artifacts / "page-own.png")
    watch(page)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(page, "document.querySelectorAll('#grid li').length === 24")
    wait_until_idle(page)
    assert "like your picture" in page.find_element(By.ID, "status").text
    alone = result_ids(page)
    draw(page, CASTLE)  # both count
    wait_until_idle(page)
    wait_for(page, SETTLED)
    assert result_ids(page) != alone
    page.find_element(By.ID, "clear").click()
    wait_for(page, SETTLED)
    assert result_ids(page) == alone
    [chip] = page.find_elements(By.CSS_SELECTOR, "#marks button")
    assert chip.accessible_name == "Remove: more like your picture"
    chip.send_keys(Keys.ENTER)
    wait_for(page, SETTLED)
    assert result_ids(page) == []


def test_a_part_of_a_picture_is_searched_by(page, picture):
    page.execute_script(
        "const send = window.fetch; window.sent = []; window.fetch = async (path, options) => {"
        " const photo = options?.body instanceof FormData && options.body.get('photo');"
        " if (photo) { const b = await createImageBitmap(photo); const c = new OffscreenCanvas(1, 1).getContext('2d');"
        " c.drawImage(b, 0, 0, 1, 1); sent.push([b.width, b.height, ...c.getImageData(0, 0, 1, 1).data]) }"
        " return send(path, options) }"
    )
    for place, expected in ((0.5, "blue"), (0, "both")):
        page.find_element(By.ID, "like").click()
        choose(page, picture)
        if place:
            shown = page.find_element(By.ID, "own-picture")
            width, height = shown.size["width"], shown.size["height"]
            drag = ActionChains(page).move_to_element_with_offset(shown, 4, 4 - height // 2).click_and_hold()
            drag.move_by_offset(width // 2 + 20, height + 20).release().perform()
            assert page.find_element(By.ID, "own-whole").is_displayed()
        page.find_element(By.ID, "own-search").click()
        wait_for(page, f"sent.length === {1 if expected == 'blue' else 2}")
    (width, height, *colour), whole = page.execute_script("return sent")
    assert (abs(width - 200) < 15, abs(height - 200) < 15, colour[2] > 200 > 60 > colour[0]) == (True, True, True)
    assert whole[:2] == [400, 200]


def test_pictures_are_pasted_into_the_dialog_and_dropped_on_the_results(page, picture):
    drop = f"{as_file(picture)} const place = document.querySelector('.results');"
    page.execute_script(f"{drop} place.dispatchEvent(new DragEvent('drop', {{dataTransfer: data, bubbles: true}}))")
    wait_for(page, f"document.getElementById('own').open && {CHOSEN}")
    page.find_element(By.CSS_SELECTOR, "#own .close").click()
    page.find_element(By.ID, "like").click()
    assert not page.find_element(By.ID, "own-search").is_displayed()
    page.execute_script(f"{as_file(picture)} dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data}}))")
    wait_for(page, CHOSEN)
    assert page.find_element(By.ID, "hint").is_displayed()  # nothing is on the sketch


def test_a_file_that_is_no_picture_is_said_to_be_none(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    page.find_element(By.ID, "like").click()
    page.find_element(By.ID, "own-file").send_keys(str(tmp_path / "text.png"))
    wait_for(page, "document.getElementById('own-hint').textContent.includes('not an image')")
    assert not page.find_element(By.ID, "own-search").is_displayed()


def test_on_a_phone(deployment, picture, tmp_path, artifacts):
    with open_page(deployment.url, tmp_path / "profile", phone=(320, 780)) as page:
        wait_for(page, LOADED)
        page.find_element(By.ID, "like").click()
        choose(page, picture)
        assert accessibility_violations(page) == []
        page.save_screenshot(artifacts / "page-phone-own.png")
        page.find_element(By.ID, "own-search").click()
        wait_for(page, "document.querySelectorAll('#grid li').length === 24")
        page.find_element(By.CSS_SELECTOR, "#controls summary").click()
        assert page.find_element(By.ID, "colors").is_displayed()
        assert accessibility_violations(page) == []
        assert page.execute_script("return document.documentElement.scrollWidth") <= 320, "it scrolls sideways"
