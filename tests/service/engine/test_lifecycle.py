import asyncio
import hashlib
import shutil
import threading
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryDamaged, GalleryError, GalleryLocked
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.searcher import Searcher
from service.engine import changes, serving
from service.engine.changes import add_photo
from service.engine.lifecycle import Engine
from service.engine.tenure import Tenure
from service.engine.uploads import Upload
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.settings import ServiceSettings


@pytest.fixture
def make(own_gallery):
    engines = []

    def make(**options):
        settings = {"gallery": own_gallery, "device": "cpu", "runtime": "torch", "reload_seconds": 0} | options
        engines.append(Engine(ServiceSettings(**settings), Metrics()))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make):
    return make()


def upload(content=b"a photo", label=None):
    vector = np.zeros(16, np.float32)
    return Upload(content, hashlib.sha256(content).hexdigest(), ".png", (1, 1), vector, label, {})


async def add(engine, *args, **kwargs):
    async with engine.lease() as serving:
        return await engine.add(serving, upload(*args, **kwargs))


async def remove(engine, identifier):
    async with engine.lease() as serving:
        await engine.remove(serving, identifier)


async def count(engine):
    async with engine.lease() as serving:
        return serving.searcher.count


def publish(path, remove=()):
    """What a job does."""
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.catalogue.remove(list(remove))
        gallery.publish()


def sample(engine, name, **labels):
    return engine.metrics.registry.get_sample_value(name, labels)


def test_photos_come_and_go_and_change_their_description(engine, own_gallery):
    async def make_changes():
        photo, is_new = await add(engine, label="first")
        again, is_new_again = await add(engine, label="second")
        assert (is_new, is_new_again, photo.id) == (True, False, again.id)
        assert await count(engine) == 25
        async with engine.lease() as serving:
            described = await engine.describe(serving, photo.id, {"metadata": {"year": 2020}})
            assert serving.photo(photo.id) == described
        assert (described.label, described.metadata) == ("second", {"year": 2020})
        await remove(engine, photo.id)
        assert await count(engine) == 24
        for change in (engine.remove, lambda serving, identifier: engine.describe(serving, identifier, {})):
            async with engine.lease() as serving:
                with pytest.raises(RequestProblem) as caught:
                    await change(serving, photo.id)
            assert caught.value.status == 404

    asyncio.run(make_changes())
    assert sample(engine, "svdraw_gallery_photos") == 24
    assert sample(engine, "svdraw_gallery_live_changes") == 3


def test_a_request_is_answered_from_one_state(engine):
    async def answers():
        async with engine.lease() as serving:
            await remove(engine, 7)
            await engine.reload()
            assert serving.searcher.count == 24
        assert await count(engine) == 23

    asyncio.run(answers())


def test_a_lease_never_gets_what_a_switch_has_closed(engine, monkeypatch):
    """The switch comes between looking up what is served and taking part in it."""
    acquire = Tenure.acquire

    def switched_before(tenure):
        monkeypatch.setattr(Tenure, "acquire", acquire)
        engine._reload()
        return acquire(tenure)

    monkeypatch.setattr(Tenure, "acquire", switched_before)
    before = engine._tenure

    async def use():
        async with engine.lease() as serving:
            assert engine._tenure is not before
            return serving.photo(1).id

    assert asyncio.run(use()) == 1


def test_a_closed_engine_gives_no_lease_and_changes_nothing(make, own_gallery):
    engine = make()

    async def late(call):
        with pytest.raises(RequestProblem) as caught:
            await call
        assert caught.value.status == 503

    async def calls():
        async with engine.lease() as serving:
            engine.close()
            assert serving.photo(1)  # a request that is running still ends
            await late(engine.add(serving, upload()))
        await late(count(engine))
        await late(engine.reload())

    asyncio.run(calls())
    with closing(Gallery.open(own_gallery)) as gallery:
        assert gallery.catalogue.count() == 24


def test_a_reload_serves_what_was_published_and_keeps_what_was_not(engine, own_gallery):
    async def switches():
        await remove(engine, 4)
        publish(own_gallery, remove=[5])
        photo, _ = await add(engine)
        assert await count(engine) == 24  # does not know of the job
        serving = await engine.reload()
        assert (serving.searcher.generation, serving.searcher.count) == (2, 23)
        assert [change.id for change in serving.searcher.changes] == [photo.id]

    asyncio.run(switches())
    assert sample(engine, "svdraw_gallery_generation") == 2
    assert sample(engine, "svdraw_gallery_reloads_total", result="switched") == 1


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("CUDA out of memory"), GalleryDamaged("damaged")])
@pytest.mark.parametrize("step", [(serving, "open_serving"), (Searcher, "with_changes")])
def test_whatever_a_reload_fails_with_the_old_one_stays(engine, step, error, monkeypatch):
    def fail(*args):
        raise error

    async def fails():
        with monkeypatch.context() as patch:
            patch.setattr(*step, fail)
            with pytest.raises(type(error)):
                await engine.reload()
        assert await count(engine) == 24
        assert (await engine.reload()).searcher.count == 24

    asyncio.run(fails())
    assert sample(engine, "svdraw_gallery_reloads_total", result="failed") == 1


def test_a_reload_that_is_not_needed_does_not_happen(engine, own_gallery):
    before = engine._tenure
    asyncio.run(engine.reload_if_changed())
    assert engine._tenure is before
    publish(own_gallery)
    asyncio.run(engine.reload_if_changed())
    assert engine._tenure is not before


def test_a_generation_that_is_missing_is_a_reload_that_failed(engine, own_gallery):
    shutil.rmtree(own_gallery / "generations")

    async def fails():
        with pytest.raises(GalleryDamaged):
            await engine.reload_if_changed()
        assert await count(engine) == 24

    asyncio.run(fails())
    assert sample(engine, "svdraw_gallery_reloads_total", result="failed") == 1


def change_elsewhere(path, *, remove=(), add=()):
    """What another service does."""
    with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():
        for content in add:
            add_photo(gallery, upload(content))
        gallery.catalogue.remove(list(remove))


def test_changes_by_other_processes_are_searched_each_once(engine, own_gallery):
    async def changes_of_both():
        change_elsewhere(own_gallery, remove=[5])
        await remove(engine, 6)  # before it knows of the other's
        await engine.reload_if_changed()
        assert await count(engine) == 22
        change_elsewhere(own_gallery, add=[b"theirs"])
        await add(engine, b"ours")
        await engine.reload_if_changed()
        assert await count(engine) == 24
        known = sample(engine, "svdraw_gallery_live_changes")
        await engine.reload_if_changed()
        assert sample(engine, "svdraw_gallery_live_changes") == known

    asyncio.run(changes_of_both())
    engine._reload()
    assert asyncio.run(count(engine)) == 24


def test_what_a_job_adds_waits_for_its_generation(engine, own_gallery):
    async def job():
        with closing(Gallery.open(own_gallery, write=True)) as gallery, gallery.writing():
            gallery.catalogue.remove([5])
            await engine.reload_if_changed()
            assert await count(engine) == 24
        await engine.reload_if_changed()
        assert await count(engine) == 23

    asyncio.run(job())


def test_many_changes_by_other_processes_are_published(make, own_gallery):
    engine = make(live_changes=2)
    change_elsewhere(own_gallery, remove=[5, 6, 7])
    asyncio.run(engine.reload_if_changed())
    assert asyncio.run(count(engine)) == 21
    assert read_generation(own_gallery).generation == 2


def test_a_photo_for_a_gallery_that_is_no_longer_served(make, own_gallery, tmp_path):
    other = shutil.copytree(own_gallery, tmp_path / "other")
    link = tmp_path / "link"
    link.symlink_to(own_gallery)
    engine = make(gallery=link)

    async def late():
        async with engine.lease() as serving:
            link.unlink()
            link.symlink_to(other)
            await engine.reload()
            for change in (engine.add(serving, upload()), engine.remove(serving, 1), engine.describe(serving, 1, {})):
                with pytest.raises(RequestProblem) as caught:
                    await change
                assert caught.value.status == 409

    asyncio.run(late())
    for path in (own_gallery, other):
        with closing(Gallery.open(path)) as gallery:
            assert gallery.catalogue.count() == 24


def test_changes_are_published_once_there_are_many(make, own_gallery):
    engine = make(live_changes=2)

    async def make_changes():
        await remove(engine, 1)
        await engine.publish_if_due()
        assert read_generation(own_gallery).generation == 1
        await remove(engine, 2)
        await engine.publish_if_due()
        async with engine.lease() as serving:
            assert (serving.searcher.generation, serving.searcher.count, serving.searcher.changes) == (2, 22, ())

    asyncio.run(make_changes())


def test_changes_are_published_while_a_job_is_writing(make, own_gallery):
    engine = make(live_changes=1)

    async def make_changes():
        await remove(engine, 1)
        with closing(Gallery.open(own_gallery, write=True)) as job, job.writing():
            with pytest.raises(GalleryLocked):
                await remove(engine, 2)
            await engine.publish_if_due()
        assert read_generation(own_gallery).generation == 2

    asyncio.run(make_changes())


def test_generations_share_what_they_have_in_common(make, own_gallery):
    engine = make(live_changes=1)

    async def make_changes():
        base = engine._tenure.serving.searcher.base
        await remove(engine, 1)
        await engine.publish_if_due()
        async with engine.lease() as serving:
            assert (serving.searcher.generation, serving.searcher.base is base) == (2, True)
        await engine.release_memory()
        publish(own_gallery, remove=[2])
        async with engine.lease() as old:
            assert (await engine.reload()).searcher.base is not base
            assert old.searcher.base is base
            assert not engine._leftovers.clear()

    asyncio.run(make_changes())
    assert engine._leftovers.clear()


def test_a_base_that_is_due_is_built_by_a_child_and_served(engine, own_gallery):
    async def builds():
        await engine.build_base_if_due()
        assert read_generation(own_gallery).generation == 1
        await remove(engine, 3)
        with closing(Gallery.open(own_gallery, write=True)) as gallery:
            gallery.configure("codes", None)
            with gallery.writing():
                await engine.build_base_if_due()
        assert read_generation(own_gallery).generation == 1  # the job builds it when it ends
        await engine.build_base_if_due()
        async with engine.lease() as serving:
            assert serving.searcher.manifest == read_generation(own_gallery)
            assert (serving.searcher.manifest.kind, serving.searcher.count, serving.searcher.changes) == (
                "codes",
                23,
                (),
            )

    asyncio.run(builds())
    assert sample(engine, "svdraw_gallery_base_builds_total", result="succeeded") == 1
    assert sample(engine, "svdraw_gallery_base_builds_running") == 0


def test_more_changes_than_a_layer_holds_wait_for_the_base(make, own_gallery, monkeypatch):
    engine = make(live_changes=1)
    monkeypatch.setattr(Gallery, "publish_layer", lambda gallery: None)

    async def make_changes():
        await remove(engine, 1)
        with pytest.raises(GalleryError, match="before a new base is built"):
            await engine.publish_if_due()
        assert await count(engine) == 23

    asyncio.run(make_changes())


def test_changes_that_cannot_be_published_are_tried_again(make, own_gallery, monkeypatch):
    engine = make(live_changes=1)
    [loop] = [loop for loop in engine.loops if loop.name == "publish"]

    def fail(gallery):
        raise OSError("disk full")

    async def make_changes():
        await remove(engine, 1)
        with monkeypatch.context() as patch:
            patch.setattr(Gallery, "publish_layer", fail)
            for _ in range(3):
                await loop.attempt()
        assert "publish has failed 3 times" in engine.alarms[0]
        assert await count(engine) == 23
        await loop.attempt()
        assert engine.alarms == []

    asyncio.run(make_changes())
    assert sample(engine, "svdraw_loop_failures_total", loop="publish") == 3
    assert read_generation(own_gallery).generation == 2


def test_a_change_that_was_cancelled_is_over_before_the_next_begins(engine):
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go_on.wait(60)
        ended.append("slow")

    async def make_changes():
        first = asyncio.create_task(engine._line.run(slow))
        await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(engine._line.run(ended.append, "next"))
        await asyncio.wait({second}, timeout=0.2)
        go_on.set()
        await second

    asyncio.run(make_changes())
    assert ended == ["slow", "next"]


def test_a_disk_that_is_full_takes_no_photo(engine, monkeypatch, caplog):
    def fail(*args):
        raise OSError("disk full")

    async def make_changes():
        with monkeypatch.context() as patch:
            patch.setattr(changes, "keep_upload", fail)
            with pytest.raises(RequestProblem) as caught:
                await add(engine)
        assert (caught.value.status, await count(engine)) == (503, 24)
        await add(engine)

    asyncio.run(make_changes())
    assert "disk full" in caplog.text


def test_a_removed_photo_is_gone_even_if_its_file_is_not(engine, monkeypatch, caplog):
    def fail(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(changes, "discard_upload", fail)
    asyncio.run(remove(engine, 7))
    assert asyncio.run(count(engine)) == 23
    assert "read-only" in caplog.text


def test_one_of_several_processes_publishes_and_builds(own_gallery):
    settings = ServiceSettings(gallery=own_gallery, device="cpu", runtime="torch", processes=2)
    names = []
    for leads in (True, False):
        engine = Engine(settings, Metrics(), leads=leads)
        names.append({loop.name for loop in engine.loops})
        engine.close()
    assert names[0] - names[1] == {"publish", "base"}


def test_processes_find_what_others_change_although_nobody_polls(make, own_gallery):
    one, other = make(processes=2), make(processes=2)

    async def run():
        before = await count(other)
        await add(one)
        assert await count(other) == before + 1

    asyncio.run(run())


def test_a_gallery_is_open_while_changes_by_others_are_looked_for(engine, monkeypatch):
    looked = []

    def revision(catalogue):
        held, retiring = engine._tenure, engine._tenure
        engine._reload()  # a switch that comes just then
        retiring.retire()
        looked.append(held.serving.gallery.catalogue.fact("revision"))
        return 0

    monkeypatch.setattr(type(engine._tenure.serving.gallery.catalogue), "revision", property(revision))
    assert not engine._is_behind()
    assert looked
