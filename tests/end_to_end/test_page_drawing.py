"""The page searches while a stroke is drawn: how often, what it gives up, and what stays where it is."""

import shutil

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from index.gallery.generations import read_generation
from index.gallery.query_moments import known_queries
from tests.end_to_end.browser import (
    CASTLE,
    CHROMEDRIVER,
    CHROMIUM,
    LOADED,
    MISSING,
    SETTLED,
    draw,
    open_page,
    result_ids,
    wait_for,
)
from tests.service.conftest import serving

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason=MISSING)]

SHOWN = f"{SETTLED} && document.querySelectorAll('#grid li').length === 24"


def record_searches(page, answer="send(path, options)"):
    """Keeps the address and the signal of every search in ``asked``; ``answer`` is what the page gets in JavaScript."""
    page.execute_script(
        "window.asked = []; const send = window.fetch; window.fetch = (path, options) => {"
        "  if (!path.startsWith('v1/search')) return send(path, options);"
        "  asked.push({ path, signal: options.signal, size: options.body.size });"
        f" return {answer} }}"
    )


def hold_down(page, strokes, scale=1.4):
    """Draws one stroke and does not lift the pen."""
    canvas = page.find_element(By.ID, "canvas")
    (x, y), *rest = [(round(scale * x), round(scale * y)) for x, y in strokes]
    actions = ActionChains(page, duration=15).move_to_element_with_offset(canvas, x, y).click_and_hold()
    for target in rest:
        actions.move_by_offset(target[0] - x, target[1] - y)
        x, y = target
    actions.perform()


def release(page):
    ActionChains(page).release().perform()


def drive(page, steps):
    """Runs steps with a ``Pace`` whose searches are answered by ``answer(value)``; gives the log of what happened."""
    return page.execute_async_script(
        "const done = arguments[0];"
        "const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));"
        "(async () => {"
        "  const { Pace } = await import('./static/pace.js');"
        "  const log = [], waiting = [];"
        "  const pace = new Pace((signal) => new Promise((resolve) => {"
        "    const number = log.filter((entry) => entry.startsWith('begin')).length + 1;"
        "    log.push(`begin ${number}`);"
        "    signal.addEventListener('abort', () => { log.push(`abandon ${number}`); resolve() });"
        "    waiting.push(resolve);"
        "  }));"
        "  const answer = async (value) => { waiting.shift()(value); await later(0) };"
        "  const until = async (entry) => { while (!log.includes(entry)) await later(5) };"
        f" {steps}"
        "  done(log);"
        "})().catch((error) => done([String(error)]))"
    )


def test_of_many_changes_the_last_waits_for_the_search_that_runs(page):
    steps = "for (let i = 0; i < 50; i++) { pace.soon(); await later(4) } await later(150); log.push('still one');"
    log = drive(page, f"{steps} await answer(); await until('begin 2'); await answer(); await later(150);")
    assert log == ["begin 1", "still one", "begin 2"]


def test_a_complete_change_abandons_what_runs_and_waits_for_nothing(page):
    log = drive(page, "pace.soon(); await until('begin 1'); pace.now(); log.push('at once');")
    assert log == ["begin 1", "abandon 1", "begin 2", "at once"]


def test_what_is_abandoned_begins_nothing_when_it_ends(page):
    log = drive(page, "pace.soon(); await until('begin 1'); pace.soon(); pace.stop(); await later(200);")
    assert log == ["begin 1", "abandon 1"]


def test_a_busy_service_is_asked_again_when_it_says(page):
    log = drive(
        page,
        "pace.now(); await answer(0.3); pace.now(); pace.soon(); await later(100); log.push('not yet');"
        "await until('begin 2'); await answer(); await later(300); pace.stop();",
    )
    assert log == ["begin 1", "not yet", "begin 2"]


def test_a_slow_service_has_pauses_until_the_pen_rests(page):
    log = drive(
        page,
        "const move = async (times) => { while (times--) { pace.soon(); await later(5) } };"
        "pace.soon(); await until('begin 1'); await later(400); await move(1); await answer();"
        "await move(10); log.push('pause'); await until('begin 2');",
    )
    assert log == ["begin 1", "pause", "begin 2"]


def test_photos_appear_before_the_stroke_ends(page):
    record_searches(page)
    hold_down(page, CASTLE[0])
    wait_for(page, SHOWN)
    early = page.execute_script("return asked.length")
    assert early >= 1
    assert all("learn=false" in path for path in page.execute_script("return asked.map(({ path }) => path)"))
    assert "probably none" not in page.find_element(By.ID, "status").text
    release(page)
    wait_for(page, f"asked.length > {early} && {SHOWN}")
    sizes = page.execute_script("return asked.map(({ size }) => size)")
    assert "learn" not in page.execute_script("return asked.at(-1).path")
    assert max(sizes[:-1]) < sizes[-1]  # many sketches are sent while it is drawn
    before = page.execute_script("return asked.length")
    page.find_element(By.ID, "undo").click()
    page.find_element(By.ID, "redo").click()
    wait_for(page, f"asked.length > {before}")
    assert "learn=false" in page.execute_script("return asked.at(-1).path")  # it was searched by before


def test_the_end_of_a_stroke_abandons_the_search_for_its_beginning(page):
    record_searches(page, "asked.length === 1 ? new Promise((_, reject) => options.signal.addEventListener('abort',"
                    " () => reject(options.signal.reason))) : send(path, options)")  # fmt: skip
    hold_down(page, CASTLE[0])
    wait_for(page, "asked.length === 1")
    release(page)
    wait_for(page, SHOWN)
    assert page.execute_script("return asked.map(({ signal }) => signal.aborted)") == [True, False]


def test_a_photo_that_is_found_again_keeps_its_card_and_the_focus(page):
    draw(page, CASTLE[:3])
    wait_for(page, SHOWN)
    wait_for(page, "[...document.querySelectorAll('#grid img')].every((image) => image.complete)")
    page.execute_script(
        "window.cards = new Map([...document.querySelectorAll('#grid li')].map((item) => [item.dataset.id, item]));"
        "document.querySelector('#grid li:nth-child(3) .photo').focus()"
    )
    focused, before = result_ids(page)[2], result_ids(page)
    page.execute_script("document.getElementById('limit').value = 20;")
    page.execute_script("document.getElementById('limit').dispatchEvent(new Event('input'))")
    wait_for(page, f"{SETTLED} && document.querySelectorAll('#grid li').length === 20")
    draw(page, CASTLE[3:4])
    wait_for(page, f"{SETTLED} && [...document.querySelectorAll('#grid li')].some((item, place) =>"
             f" item.dataset.id !== {before}.map(String)[place])")  # fmt: skip
    same = "[...document.querySelectorAll('#grid li')].filter((item) => cards.has(item.dataset.id))"
    assert page.execute_script(f"return {same}.length > 0")
    assert page.execute_script(f"return {same}.every((item) => cards.get(item.dataset.id) === item)")
    assert page.execute_script(f"return {same}.every((item) => item.querySelector('img').naturalWidth > 0)")
    assert focused in before


def test_the_focus_stays_on_its_photo(page):
    draw(page, CASTLE)
    wait_for(page, SHOWN)
    page.execute_script("document.querySelector('#grid li:nth-child(3) .photo').focus()")
    third = result_ids(page)[2]
    page.execute_script("document.getElementById('unique').click()")
    page.execute_script("document.getElementById('dimensions').value = 30;")
    page.execute_script("document.getElementById('dimensions').dispatchEvent(new Event('input'))")
    wait_for(page, f"{SETTLED} && document.getElementById('status').textContent.includes(' 30 dimensions')")
    if third in result_ids(page):
        assert page.execute_script("return document.activeElement.closest('li')?.dataset.id") == third


def test_a_service_that_refuses_is_asked_again(page):
    refusal = "{ status: 429, headers: { 'Retry-After': '1' } }"
    record_searches(
        page,
        "asked.length === 1 ? Promise.resolve(new Response(JSON.stringify({ detail: 'slow down' }),"
        f" {refusal})) : send(path, options)",
    )
    draw(page, CASTLE[:1])
    page.execute_script("document.getElementById('unique').click()")
    wait_for(page, SHOWN)
    assert "photos" in page.find_element(By.ID, "status").text


def test_photos_stand_still_while_drawing_for_who_wants_little_motion(page):
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    record_searches(page)
    hold_down(page, CASTLE[0])
    assert page.execute_script("return asked.length") == 0
    release(page)
    wait_for(page, SHOWN)
    assert page.execute_script("return asked.length") == 1


def test_the_beginning_of_a_stroke_is_not_learned_from(deployment, tmp_path):
    ignored = shutil.ignore_patterns("queries.sqlite")
    gallery = shutil.copytree(deployment.gallery, tmp_path / "gallery", ignore=ignored)
    with serving(gallery=gallery) as url, open_page(url, tmp_path / "profile") as page:
        wait_for(page, LOADED)
        record_searches(page)
        hold_down(page, CASTLE[0])
        wait_for(page, SHOWN)
        early = page.execute_script("return asked.length")
        release(page)
        wait_for(page, f"asked.length > {early} && {SHOWN}")
        wait_for(page, "document.getElementById('status').textContent.includes('dimensions')")
    generation = read_generation(gallery)
    assert known_queries(gallery, generation.model, generation.dim).count == 1
