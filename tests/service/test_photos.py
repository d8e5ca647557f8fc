import io
import json
import shutil
import sqlite3
import threading
from contextlib import closing

import fsspec
import pytest
from PIL import Image

from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.jobs import index_photos
from index.sources import Candidate
from service.engine import lifecycle
from tests.conftest import draw_shape
from tests.service.access.test_keys import line
from tests.service.conftest import wait_until
from tests.training.model.test_images import MEANINGLESS_EXIF

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def changing(start, own_gallery):
    return start(gallery=own_gallery, anonymous="write")


@pytest.fixture
def photo():
    buffer = io.BytesIO()
    image = Image.effect_noise((50, 70), 90).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def search_by(client, identifier, **options):
    response = client.post("/v1/search", json={"photo_id": identifier, "limit": 100} | options)
    assert response.status_code == 200, response.text
    return [result["id"] for result in response.json()["results"]]


def everything(client, sketch):
    response = client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 1000})
    return {result["id"] for result in response.json()["results"]}


def test_a_new_photo_is_found_at_once_and_a_removed_one_not(changing, sketch, photo):
    data = {"label": "noise", "metadata": json.dumps({"year": 2020, "tags": ["a"]})}
    response = changing.post("/v1/photos", files={"file": ("a.png", photo)}, data=data)
    assert response.status_code == 201, response.text
    added = response.json()
    assert (added["id"], added["label"], added["metadata"]) == (25, "noise", {"year": 2020, "tags": ["a"]})
    assert (added["width"], added["height"], added["bytes"]) == (50, 70, len(photo))
    assert response.headers["location"] == "/v1/photos/25"
    assert everything(changing, sketch) == set(range(1, 26))
    assert changing.get("/v1/photos/25/image").content == photo
    assert changing.get("/v1/photos/25/thumbnail").status_code == 200
    assert changing.get("/v1/gallery").json()["photos"] == 25
    for identifier in (25, 3):
        assert changing.delete(f"/v1/photos/{identifier}").status_code == 204
        assert changing.delete(f"/v1/photos/{identifier}").status_code == 404
        assert changing.get(f"/v1/photos/{identifier}/image").status_code == 404
    assert everything(changing, sketch) == set(range(1, 25)) - {3}
    assert changing.get("/v1/gallery").json() | {"photos": 23, "live_changes": 3, "generation": 1} == (
        changing.get("/v1/gallery").json()
    )


def test_a_new_photo_has_colours_that_searches_filter_by(changing, sketch):
    red = Image.new("RGB", (90, 60), (200, 30, 30))
    added = changing.post("/v1/photos", content=encoded(red, "JPEG"), headers={"Content-Type": "image/jpeg"}).json()
    assert added["colors"] == ["red"]
    assert changing.get("/v1/photos/25").json() == added
    assert "red" in changing.get("/v1/gallery").json()["colors"]
    assert "pink" not in changing.get("/v1/gallery").json()["colors"]
    wanted = {"color": ["#c81e1e"], "id": {"gt": 20}}
    answer = changing.post("/v1/search", content=sketch, headers=PNG, params={"filter": json.dumps(wanted)}).json()
    assert [(result["id"], result["colors"]) for result in answer["results"]] == [(25, ["red"])]
    refused = changing.post("/v1/search", content=sketch, headers=PNG, params={"filter": '{"color": "reddish"}'})
    assert refused.status_code == 422
    assert "a colour is #rrggbb or one of black, white" in refused.json()["detail"]


def test_its_score_is_that_of_an_indexed_copy(changing, shapes, sketch):
    copy = (shapes / "photo" / "circle" / "circle-2.png").read_bytes()  # photo 3
    added = changing.post("/v1/photos", content=copy, headers=PNG, params={"label": "copy"}).json()["id"]
    results = changing.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100}).json()["results"]
    scores = {result["id"]: result["score"] for result in results}
    assert scores[added] == scores[3]


def test_copies_can_be_left_out(changing, shapes, sketch):
    """Photos 25 and 26 are copies of 3 and 4, added live; whole pages come of what is left."""
    for name in ("circle-2", "circle-3"):
        copy = (shapes / "photo" / "circle" / f"{name}.png").read_bytes()
        assert changing.post("/v1/photos", content=copy, headers=PNG).status_code == 201

    def search(**options):
        answer = changing.post("/v1/search", content=sketch, headers=PNG, params=options).json()
        return [result["id"] for result in answer["results"]]

    everything = search(limit=100)
    assert set(everything) == set(range(1, 27))
    firsts = [identifier for identifier in everything if identifier < 25]
    assert search(limit=100, unique=True) == firsts
    assert search(limit=5, offset=2, unique=True) == firsts[2:7]
    assert search(limit=24, unique=True) == firsts
    some = search(limit=100, unique=True, filter=json.dumps({"id": {"gte": 4}}))
    assert some == [identifier for identifier in everything if identifier >= 4 and identifier != 26]
    changing.delete("/v1/photos/3")
    assert set(search(limit=100, unique=True)) == set(range(1, 26)) - {3}
    assert set(search_by(changing, 4, unique=True)) == set(range(1, 26)) - {3, 4}
    assert set(search_by(changing, 4)) == set(range(1, 27)) - {3, 4}


def test_the_same_file_again_is_the_same_photo(changing, photo):
    first = changing.post("/v1/photos", content=photo, headers=PNG, params={"label": "a"})
    again = changing.post("/v1/photos", content=photo, headers=PNG, params={"label": "b"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["label"] == "b"
    assert changing.get("/v1/gallery").json()["photos"] == 25


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_photos_of_phones_with_several_pictures_in_a_file_are_jpegs(changing):
    image = Image.effect_noise((50, 70), 90).convert("RGB")
    content = encoded(image, "MPO", save_all=True, append_images=[image])
    added = changing.post("/v1/photos", content=content, headers=PNG).json()
    assert added["uri"].endswith(f"{added['sha256']}.jpeg")
    assert changing.get(f"/v1/photos/{added['id']}/image").headers["content-type"] == "image/jpeg"
    assert changing.get(f"/v1/photos/{added['id']}/thumbnail").status_code == 200


@pytest.mark.parametrize("exif", MEANINGLESS_EXIF.values(), ids=MEANINGLESS_EXIF)
def test_an_orientation_that_means_nothing_is_no_obstacle(changing, exif):
    content = encoded(Image.effect_noise((50, 70), 90), "JPEG", exif=exif)
    added = changing.post("/v1/photos", content=content, headers=PNG)
    assert added.status_code == 201, added.text
    assert (added.json()["width"], added.json()["height"]) == (50, 70)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_size_and_thumbnail_are_upright(changing, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.effect_noise((50, 70), 90), kind, exif=exif)
    added = changing.post("/v1/photos", content=content, headers=PNG).json()
    assert (added["width"], added["height"]) == (70, 50)
    thumbnail = changing.get(f"/v1/photos/{added['id']}/thumbnail").content
    assert Image.open(io.BytesIO(thumbnail)).size == (70, 50)


def test_large_jpegs_are_photos_like_others_and_larger_ones_for_none(start, own_gallery):
    client = start(gallery=own_gallery, anonymous="write", max_pixels=1_000_000)
    large, too_large = (encoded(Image.new("L", (side, 1000)), "JPEG") for side in (4000, 4010))
    added = client.post("/v1/photos", content=large, headers=PNG)
    assert added.status_code == 201, added.text
    assert (added.json()["width"], added.json()["height"]) == (4000, 1000)
    assert client.get(f"/v1/photos/{added.json()['id']}/thumbnail").status_code == 200
    refused = client.post("/v1/photos", content=too_large, headers=PNG)
    assert refused.status_code == 413
    assert "4010 x 1000 px is more than the limit of 1000000 pixels" in refused.json()["detail"]


def test_only_uploaded_files_are_deleted(changing, own_gallery, photo, shapes):
    added = changing.post("/v1/photos", content=photo, headers=PNG).json()
    assert added["uri"] == f"photos/{added['sha256'][:2]}/{added['sha256']}.png"
    changing.delete(f"/v1/photos/{added['id']}")
    assert not [file for file in (own_gallery / "photos").rglob("*") if file.is_file()]
    uri = changing.get("/v1/photos/1").json()["uri"]
    changing.delete("/v1/photos/1")
    assert (shapes / "photo" / "circle" / "circle-0.png").samefile(uri)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_moved_gallery_takes_its_pictures_along(start, own_gallery, photo, tmp_path, earlier):
    added = start(gallery=own_gallery, anonymous="write").post("/v1/photos", content=photo, headers=PNG).json()
    if earlier:  # as earlier versions kept it
        with closing(Gallery.open(own_gallery, write=True)) as gallery:
            gallery.catalogue.rename({added["id"]: str(own_gallery / added["uri"])})
            gallery.catalogue.set_facts({"uris": "absolute"})
    client = start(gallery=shutil.move(own_gallery, tmp_path / "moved"), anonymous="write")
    assert client.get(f"/v1/photos/{added['id']}/image").content == photo
    assert client.get(f"/v1/photos/{added['id']}/thumbnail").status_code == 200
    again = client.post("/v1/photos", content=photo, headers=PNG)
    assert (again.status_code, again.json()["id"], again.json()["uri"]) == (200, added["id"], added["uri"])
    assert client.delete(f"/v1/photos/{added['id']}").status_code == 204
    assert not [file for file in (tmp_path / "moved" / "photos").rglob("*") if file.is_file()]


def test_files_in_the_gallery_that_were_not_uploaded_stay(changing, own_gallery):
    mine = own_gallery / "photos" / "mine.png"
    mine.parent.mkdir()
    draw_shape("circle", 1, filled=True, size=90).save(mine)
    with closing(Gallery.open(own_gallery, write=True)) as gallery:
        index_photos(gallery, [Candidate(str(mine), None, {})], "cpu")
    assert changing.post("/v1/gallery/reload").status_code == 200
    assert changing.get("/v1/photos/25").json()["uri"] == "photos/mine.png"
    assert changing.get("/v1/photos/25/image").content == mine.read_bytes()
    assert changing.delete("/v1/photos/25").status_code == 204
    assert mine.is_file()


def test_descriptions_change_in_part(changing, start, own_gallery):
    before = changing.get("/v1/photos/2").json()
    changed = changing.patch("/v1/photos/2", json={"metadata": {"colour": "red", "n": 1.5}})
    assert changed.json() == before | {"metadata": {"colour": "red", "n": 1.5}}
    assert changing.patch("/v1/photos/2", json={"label": None}).json()["label"] is None
    assert changing.get("/v1/photos/2").json() == before | {"metadata": {"colour": "red", "n": 1.5}, "label": None}
    assert search_by(changing, 1)
    for body, status in [({"label": 3}, 422), ({"metadata": []}, 422), ({"id": 3}, 422), ([], 422)]:
        assert changing.patch("/v1/photos/2", json=body).status_code == status
    assert changing.patch("/v1/photos/999", json={}).status_code == 404
    assert search_by(changing, 1, filter={"colour": ["red"], "n": {"lt": 2}}) == [2]
    assert search_by(changing, 1, filter={"n": {"gt": 2}}) == []
    assert start(gallery=own_gallery).get("/v1/photos/2").json()["metadata"]["colour"] == "red"


def test_a_filter_that_takes_too_long_is_refused_with_its_reason(changing, monkeypatch):
    monkeypatch.setattr("service.engine.searching._FILTER_SECONDS", 0)
    monkeypatch.setattr("index.gallery.database._STEPS", 1)  # between two looks at the clock
    search = {"photo_id": 1, "filter": {"colour": "red"}}
    answer = changing.post("/v1/search", json=search)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "--filterable of `svdraw index build` or `compact`: colour" in answer.json()["detail"]
    [one, other] = changing.post("/v1/search/batch", json={"searches": [search, {"photo_id": 1}]}).json()["items"]
    assert (one["status"], other["status"]) == (503, 200)


def test_pages(changing):
    found, after = [], 0
    while after is not None:
        page = changing.get("/v1/photos", params={"limit": 10, "after": after}).json()
        found += [photo["id"] for photo in page["photos"]]
        after = page["next_after"]
    assert found == list(range(1, 25))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"no image", "headers": PNG}, 400),
        ({"content": b"", "headers": PNG}, 400),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"files": {"other": b"x"}}, 422),
        ({"files": {"file": b"x"}, "data": {"metadata": "{"}}, 422),
        ({"files": {"file": b"x"}, "data": {"metadata": "[]"}}, 422),
        ({"files": {"file": b"x"}, "data": {"metadata": '{"a": NaN}'}}, 422),
        ({"files": {"file": b"x"}, "data": {"metadata": '{"a": 1e999}'}}, 422),
        ({"files": {"file": b"x"}, "data": {"surprise": "x"}}, 422),
        ({"files": {"file": b"x"}, "data": {"label": "x" * 1001}}, 422),
    ],
)
def test_bad_photos(changing, request_, status):
    assert changing.post("/v1/photos", **request_).status_code == status
    assert changing.get("/v1/gallery").json()["photos"] == 24


def test_live_changes_survive_a_kill(start, own_gallery, sketch, photo):
    killed = start(gallery=own_gallery, anonymous="write")
    added = killed.post("/v1/photos", content=photo, headers=PNG).json()["id"]
    killed.delete("/v1/photos/7")
    again = start(gallery=own_gallery)  # the first one has published nothing
    assert everything(again, sketch) == set(range(1, 25)) - {7} | {added}
    assert again.get("/v1/gallery").json()["live_changes"] == 0


def test_many_changes_are_published(start, own_gallery, sketch, photo, monkeypatch):
    monkeypatch.setattr(lifecycle, "_PUBLISH_SECONDS", 0.01)
    client = start(gallery=own_gallery, anonymous="write", live_changes=2)
    added = client.post("/v1/photos", content=photo, headers=PNG).json()["id"]
    assert read_generation(own_gallery).generation == 1
    client.delete("/v1/photos/7")
    wait_until(lambda: read_generation(own_gallery).generation == 2)
    wait_until(lambda: client.get("/v1/gallery").json()["generation"] == 2)
    gallery = client.get("/v1/gallery").json()
    assert (gallery["generation"], gallery["live_changes"], gallery["photos"]) == (2, 0, 24)
    assert everything(client, sketch) == set(range(1, 25)) - {7} | {added}


def test_writing_waits_for_no_job(changing, own_gallery, photo):
    gallery = Gallery.open(own_gallery, write=True)
    with gallery.writing():
        response = changing.post("/v1/photos", content=photo, headers=PNG)
    gallery.close()
    assert (response.status_code, "indexing job" in response.json()["detail"]) == (409, True)
    assert response.headers["retry-after"]
    assert changing.post("/v1/photos", content=photo, headers=PNG).status_code == 201


def test_the_last_photo_stays(changing):
    assert {changing.delete(f"/v1/photos/{number}").status_code for number in range(2, 25)} == {204}
    assert changing.delete("/v1/photos/1").status_code == 409


def add_by_a_job(path, folder, count):
    files = []
    for number in range(count):
        file = folder / f"job-{number}.png"
        draw_shape("circle", number, filled=True, size=90 + number).save(file)
        files.append(Candidate(str(file), "job", {}))
    gallery = Gallery.open(path, write=True)
    index_photos(gallery, files, "cpu")
    gallery.close()


def test_reload_serves_what_a_job_published_and_keeps_live_changes(changing, own_gallery, tmp_path, photo, sketch):
    changing.delete("/v1/photos/4")
    add_by_a_job(own_gallery, tmp_path, 2)
    assert everything(changing, sketch) == set(range(1, 25)) - {4}
    added = changing.post("/v1/photos", content=photo, headers=PNG).json()["id"]  # not in the job's generation
    gallery = changing.post("/v1/gallery/reload").json()
    assert (gallery["generation"], gallery["photos"], gallery["live_changes"]) == (2, 26, 1)
    assert everything(changing, sketch) == set(range(1, 25)) - {4} | {25, 26, added}


def test_reload_happens_by_itself(start, own_gallery, tmp_path):
    client = start(gallery=own_gallery, reload_seconds=0.05)
    add_by_a_job(own_gallery, tmp_path, 1)
    wait_until(lambda: client.get("/v1/gallery").json()["generation"] == 2)
    assert client.get("/v1/gallery").json()["photos"] == 25


def test_a_link_switches_to_another_gallery_while_requests_run(start, own_gallery, gallery_path, tmp_path, sketch):
    other = shutil.copytree(own_gallery, tmp_path / "other")
    gallery = Gallery.open(other, write=True)
    gallery.catalogue.remove([1, 2, 3])
    gallery.publish()
    gallery.close()
    link = tmp_path / "current"
    link.symlink_to(own_gallery)
    client = start(gallery=link, anonymous="write")
    answers, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            answers.append(client.post("/v1/search", content=sketch, headers=PNG, params={"limit": 100}))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for target in (other, own_gallery, other):
        link.unlink()
        link.symlink_to(target)
        assert client.post("/v1/gallery/reload").status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert {(answer.json()["generation"], len(answer.json()["results"])) for answer in answers} <= {(1, 24), (2, 21)}
    assert client.get("/v1/gallery").json()["photos"] == 21


def test_a_damaged_generation_is_not_switched_to(changing, own_gallery, sketch):
    (own_gallery / "CURRENT").write_text("000009\n")
    response = changing.post("/v1/gallery/reload")
    assert response.status_code == 503
    assert len(everything(changing, sketch)) == 24
    assert 'svdraw_gallery_reloads_total{result="failed"} 1.0' in changing.get("/metrics").text


def test_keys_decide_who_changes_photos(start, own_gallery, tmp_path, photo):
    keys = tmp_path / "keys"
    keys.write_text(line("a", "read", "r") + line("b", "write", "w"))
    client = start(gallery=own_gallery, keys=keys)
    for secret, status in (("r", 403), ("w", 201), ("x", 401)):
        headers = PNG | {"api-key": secret}
        assert client.post("/v1/photos", content=photo, headers=headers).status_code == status


def test_a_photo_that_changed_is_served_as_it_is_now(changing, own_gallery, tmp_path, shapes):
    """Its validators are those of what is served, though the gallery knows it as it was."""
    copy = shutil.copy2(shapes / "photo" / "circle" / "circle-0.png", tmp_path / "photo.png")
    move(own_gallery, 1, copy)
    for path in ("image", "thumbnail"):
        path = f"/v1/photos/1/{path}"
        before = changing.get(path)
        assert changing.get(path, headers={"If-None-Match": before.headers["etag"]}).status_code == 304
        draw_shape("line", 1, filled=True, size=200 + len(path)).save(copy)
        after = changing.get(path, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.content != before.content
        assert changing.get(path, headers={"If-None-Match": after.headers["etag"]}).status_code == 304
    assert changing.get("/v1/photos/1/image").content == copy.read_bytes()


def move(path, identifier, uri):
    """Tells a gallery that a photo lies elsewhere."""
    with closing(sqlite3.connect(path / "catalogue.sqlite")) as catalogue, catalogue:
        catalogue.execute("UPDATE photos SET uri = ? WHERE id = ?", (str(uri), identifier))


def test_a_remote_photo_comes_in_pieces(changing, own_gallery, shapes, monkeypatch):
    content = (shapes / "photo" / "circle" / "circle-0.png").read_bytes()
    fsspec.filesystem("memory").pipe("/bucket/photo.png", content)
    move(own_gallery, 1, "memory://bucket/photo.png")
    monkeypatch.setattr("service.http.files._PIECE", 100)
    answer = changing.get("/v1/photos/1/image")
    assert (answer.content, answer.headers["content-type"]) == (content, "image/png")
    assert answer.headers["content-length"] == str(len(content))
    assert changing.get("/v1/photos/1/image", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    head = changing.head("/v1/photos/1/image")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))
    assert changing.get("/v1/photos/1/thumbnail").status_code == 200
    fsspec.filesystem("memory").rm("/bucket/photo.png")
    assert changing.get("/v1/photos/1/image").status_code == 404


@pytest.mark.parametrize("remote", [False, True])
def test_only_images_are_sent(changing, own_gallery, tmp_path, remote):
    """Whatever a photo's file is by now, or a link in its place leads to."""
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0:root:/root:/bin/sh\n")
    fsspec.filesystem("memory").pipe("/bucket/secret", secret.read_bytes())
    (tmp_path / "link.png").symlink_to("/etc/passwd")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    local = (secret, secret.as_uri(), tmp_path / "link.png", tmp_path / "zero.png")
    for uri in ("memory://bucket/secret",) if remote else local:
        move(own_gallery, 1, uri)
        for path in ("image", "thumbnail"):
            answer = changing.get(f"/v1/photos/1/{path}")
            assert answer.status_code == 404
            assert answer.json()["detail"].startswith("the photo's file is ")
            assert "root" not in answer.text
        assert changing.head("/v1/photos/1/image").status_code == 404


def test_a_fifo_hangs_no_request(changing, own_gallery, fifo):
    move(own_gallery, 1, fifo)
    for path in ("image", "thumbnail"):
        answer = changing.get(f"/v1/photos/1/{path}")
        assert (answer.status_code, "a FIFO" in answer.json()["detail"]) == (404, True)
    assert changing.get("/v1/photos/2/image").status_code == 200
