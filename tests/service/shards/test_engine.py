"""The service answers over shards as it does over one gallery with the same photos."""

import io
import json
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest
from fastapi.testclient import TestClient

from index.errors import GalleryDamaged, GalleryError
from index.gallery.directory import Gallery
from index.gallery.publishing import SHARED_ORDER
from index.parts.embedding import embed_photos
from index.shards.building import build_shards
from index.shards.layout import shard_folder, shard_of
from index.sources import list_photos
from service.app import create_app, open_engine
from service.engine.lifecycle import Engine
from service.http.metrics import Metrics
from service.settings import ServiceSettings
from service.shards.engine import ShardsEngine
from service.shards.fleet import ShardAway
from tests.conftest import draw_shape
from tests.service.conftest import wait_until
from tests.service.shards.conftest import SHARDS, ids_of

DEEP = {"limit": 30, "with_payload": True}
PNG = {"Content-Type": "image/png"}


@contextmanager
def served(path, engine=ShardsEngine, **options):
    settings = ServiceSettings(
        **{"gallery": path, "device": "cpu", "runtime": "torch", "reload_seconds": 0, "anonymous": "write"} | options
    )
    with TestClient(create_app(settings, engine(settings, Metrics()))) as client:
        yield client


@pytest.fixture(scope="module")
def both(collection):
    """Clients of the shards and of the single gallery, and the ids among all shards by those of the single."""
    with ExitStack() as stack:
        shards = stack.enter_context(served(collection / "shards"))
        single = stack.enter_context(served(collection / "single", Engine))
        yield shards, single, dict(enumerate(ids_of(collection / "shards"), 1))


@pytest.fixture
def changed(own_shards):
    with served(own_shards) as client:
        yield client


def search(client, sketch, **options):
    response = client.post("/v1/search", content=sketch, params={"limit": 5} | options, headers=PNG)
    assert response.status_code == 200, response.text
    return response.json()


def scores(answer):
    return [(result["id"], result["score"]) for result in answer["results"]]


def picture(variant=50):
    buffer = io.BytesIO()
    draw_shape("triangle", variant, filled=True, size=80).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"dimensions": count} for count in (1, 3, 8, 16)),
        {"limit": 30},
        {"limit": 4, "offset": 7},
        {"limit": 30, "unique": True},
        {"limit": 30, "unique": True, "offset": 3},
        {"limit": 30, "filter": json.dumps({"label": "square"})},
        {"limit": 30, "filter": json.dumps({"width": {"gte": 1}}), "unique": True},
        {"limit": 30, "score_threshold": -0.0045},
        {"expand": 0.5},
        {"with_contributions": True},
        {"with_payload": True},
    ],
)
def test_results_are_those_of_a_single_gallery(both, sketch, options):
    shards, single, ids = both
    found, expected = (search(client, sketch, **options) for client in (shards, single))
    assert scores(found) == [(ids[identifier], score) for identifier, score in scores(expected)]
    assert scores(found)
    for name in ("total", "dimensions", "baseline", "complete", "missing_shards"):
        assert found[name] == expected[name]
    for result, other in zip(found["results"], expected["results"], strict=True):
        for name in result.keys() - {"id", "image_url", "thumbnail_url"}:
            assert result[name] == other[name], name


def test_photos_of_the_gallery_can_be_searched_by_and_marked(both, sketch):
    shards, single, ids = both
    body = {"photo_id": 5, "positive": [7], "negative": [9, 2], "limit": 20}
    named = {
        name: ids[value] if isinstance(value, int) else [ids[one] for one in value]
        for name, value in body.items()
        if name != "limit"
    }
    found = shards.post("/v1/search", json=named | {"limit": 20}).json()
    expected = single.post("/v1/search", json=body).json()
    assert scores(found) == [(ids[identifier], score) for identifier, score in scores(expected)]
    batch = {"searches": [named, {"photo_id": ids[1]}, {"photo_id": 10**6}]}
    answer = shards.post("/v1/search/batch", json=batch).json()
    assert [item["status"] for item in answer["items"]] == [200, 200, 404]
    assert answer["complete"] is True


def test_what_is_wrong_with_a_search_is_said_as_by_a_single_gallery(both, sketch):
    shards, single, _ = both
    for options in ({"dimensions": 17}, {"filter": '{"no": {"such": 1}}'}, {"offset": 10_000}, {"min_relevance": 0.5}):
        answers = [
            client.post("/v1/search", content=sketch, params=options, headers=PNG) for client in (shards, single)
        ]
        assert answers[0].status_code == answers[1].status_code == 422
        assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_pages_of_photos_go_through_all_shards_in_order_of_id(both, limit):
    shards, _, ids = both
    listed, after = [], 0
    while after is not None:
        page = shards.get("/v1/photos", params={"limit": limit, "after": after}).json()
        listed += [photo["id"] for photo in page["photos"]]
        after = page["next_after"]
    assert listed == list(ids.values())


def test_a_photo_is_described_and_shown_from_its_shard(both):
    shards, single, ids = both
    for identifier in (1, 8, 26):
        info, other = shards.get(f"/v1/photos/{ids[identifier]}").json(), single.get(f"/v1/photos/{identifier}").json()
        assert info == other | {"id": ids[identifier]}
        for name in ("image", "thumbnail"):
            shown, same = (
                client.get(f"/v1/photos/{one}/{name}")
                for client, one in ((shards, ids[identifier]), (single, identifier))
            )
            assert shown.content == same.content
    assert shards.get(f"/v1/photos/{10**6}").status_code == 404
    info, other = shards.get("/v1/gallery").json(), single.get("/v1/gallery").json()
    assert {name for name in info if info[name] != other[name]} <= {"generation", "created", "shards"}
    assert (info["shards"], other["shards"]) == (SHARDS, 1)


def test_changes_go_to_the_shard_of_the_photo(changed, sketch):
    total = search(changed, sketch)["total"]
    added = changed.post("/v1/photos", content=picture(), params={"label": "new"}, headers=PNG)
    assert added.status_code == 201, added.text
    photo = added.json()
    assert photo["id"] % SHARDS == shard_of(photo["sha256"], SHARDS)
    found = search(changed, picture(), **DEEP)
    assert found["total"] == total + 1
    assert photo["id"] in [result["id"] for result in found["results"]]
    assert changed.get("/v1/gallery").json()["live_changes"] == 1
    again = changed.post("/v1/photos", content=picture(), params={"label": "again"}, headers=PNG)
    assert (again.status_code, again.json()["id"]) == (200, photo["id"])
    described = changed.patch(f"/v1/photos/{photo['id']}", json={"metadata": {"year": 1900}})
    assert described.json()["metadata"] == {"year": 1900}
    newest = search(changed, sketch, filter='{"year": 1900}')
    assert [result["id"] for result in newest["results"]] == [photo["id"]]
    assert changed.get(f"/v1/photos/{photo['id']}/image").content == picture()
    assert changed.delete(f"/v1/photos/{photo['id']}").status_code == 204
    assert changed.delete(f"/v1/photos/{photo['id']}").status_code == 404
    assert changed.patch(f"/v1/photos/{photo['id']}", json={"label": "gone"}).status_code == 404
    found = search(changed, sketch, **DEEP)
    assert found["total"] == total
    assert photo["id"] not in [result["id"] for result in found["results"]]


def test_a_reload_brings_what_a_job_has_published(changed, own_shards, tiny_bundle, sketch, tmp_path):
    before = changed.get("/v1/gallery").json()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.png").write_bytes(picture())
    embed_photos(list_photos(tmp_path / "more"), tiny_bundle, str(tmp_path / "parts"), "cpu")
    build_shards(own_shards, tiny_bundle, str(tmp_path / "parts"), SHARDS)
    after = changed.post("/v1/gallery/reload").json()
    assert after["photos"] == before["photos"] + 1
    assert after["generation"] == before["generation"] + 1
    assert search(changed, sketch)["total"] == after["photos"]


class Stuck:
    """A caller whose shard may stop answering."""

    def __init__(self, caller, is_stuck):
        self._caller, self._is_stuck = caller, is_stuck

    def call(self, *args, **options):
        pending = self._caller.call(*args, **options)
        return StuckPending(pending) if self._is_stuck.is_set() else pending

    def close(self):
        self._caller.close()


class StuckPending:
    def __init__(self, pending):
        self._pending = pending

    def outcome(self, seconds):
        raise ShardAway("it hangs")


@pytest.fixture
def stuck(both, monkeypatch):
    """For each shard, an event that keeps it from answering as long as it is set."""
    fleet = both[0].app.state.engine._fleet
    events = [threading.Event() for _ in range(SHARDS)]
    callers = [Stuck(caller, event) for caller, event in zip(fleet._callers, events, strict=True)]
    monkeypatch.setattr(fleet, "_callers", callers)
    yield events
    for event in events:
        event.clear()
    fleet.look()


def test_a_shard_that_does_not_answer_is_missing_and_said_to_be(both, sketch, stuck):
    shards, _, ids = both
    whole = search(shards, sketch, **DEEP)
    stuck[1].set()
    partial = search(shards, sketch, **DEEP)
    assert (partial["complete"], partial["missing_shards"]) == (False, [1])
    assert scores(partial) == [(one, score) for one, score in scores(whole) if one % SHARDS != 1]
    batch = shards.post("/v1/search/batch", json={"searches": [{"photo_id": next(i for i in ids.values() if i % 3)}]})
    assert batch.status_code == 200
    assert shards.get("/readyz").status_code == 200
    shards.portal.call(shards.app.state.engine._look)
    assert "svdraw_gallery_missing_shards 1.0" in shards.get("/metrics").text
    away = next(identifier for identifier in ids.values() if identifier % SHARDS == 1)
    for response in (shards.get(f"/v1/photos/{away}"), shards.get("/v1/photos")):
        assert response.status_code == 503
        assert "do not answer" in response.text or "does not answer" in response.text
    stuck[1].clear()
    shards.portal.call(shards.app.state.engine._look)
    assert "svdraw_gallery_missing_shards 0.0" in shards.get("/metrics").text
    assert search(shards, sketch, **DEEP) == whole


def test_a_search_asks_each_shard_once(both, sketch, monkeypatch):
    shards, _, ids = both
    fleet, asked = shards.app.state.engine._fleet, []
    ask_all = fleet.ask_all

    def counted(calls, **options):
        if calls:
            asked.append([(shard, call[0]) for shard, call in calls.items()])
        return ask_all(calls, **options)

    monkeypatch.setattr(fleet, "ask_all", counted)
    every = [(shard, "search") for shard in range(SHARDS)]
    whole = search(shards, sketch, **DEEP)
    assert len(whole["results"]) == len(ids)
    assert asked == [every]
    asked.clear()
    monkeypatch.setattr("service.shards.shard._SENT", 1)
    assert search(shards, sketch, **DEEP) == whole
    assert [names[0][1] for names in asked] == ["search", "photos"]


def test_if_no_shard_answers_the_search_fails(both, sketch, stuck):
    shards, _, _ = both
    for event in stuck:
        event.set()
    for _ in range(2):  # while they are waited for, and once they are known to be away
        response = shards.post("/v1/search", content=sketch, headers=PNG)
        assert response.status_code == 503
        assert "no shard of the collection answers" in response.text


def test_a_cluster_is_for_shards_alone(collection):
    settings = ServiceSettings(gallery=collection / "single", device="cpu", ray="127.0.0.2:1")
    with pytest.raises(GalleryError, match="holds no shards"):
        open_engine(settings, Metrics())


def test_a_shard_with_another_order_is_refused(own_shards, collection):
    shard = shard_folder(own_shards, 1)
    (shard / SHARED_ORDER).unlink()
    with closing(Gallery.open(shard, write=True)) as gallery, gallery.writing():
        gallery.publish()
    settings = ServiceSettings(gallery=own_shards, device="cpu", runtime="torch")
    with pytest.raises(GalleryDamaged, match="differ in their model or order"):
        ShardsEngine(settings, Metrics())


def test_shards_are_recognised_by_the_app(collection):
    settings = ServiceSettings(gallery=collection / "shards", device="cpu", runtime="torch", reload_seconds=0)
    with TestClient(create_app(settings)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert isinstance(client.app.state.engine, ShardsEngine)
