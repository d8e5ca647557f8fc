"""Jobs killed at every step that they take, full disks, readers during switches.

SVDRAW_TEST_KILLS asks for so many kills at random moments as well.
"""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from index.errors import GalleryDamaged, GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import load_generation, read_generation
from index.gallery.searcher import Searcher
from index.jobs import compact, index_photos, remove_photos, sync_photos
from index.sources import list_photos
from tests.conftest import SHAPES, draw_shape
from tests.index.conftest import as_earlier, decaying

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("SVDRAW_TEST_KILLS", "0"))
REMOVED = list(range(1, 40, 3))

# Steps, as the last lines of what a process is about to do; it is killed before it does the last.
CHANGE = r"sql (?:INSERT OR REPLACE INTO vectors|DELETE FROM photos).*\nsql COMMIT"
MOVED = r"sql DELETE FROM photos_before.*"
STEPS = {
    "before a model's file": r"os.rename \S* \S*/model/model.json",
    "before a commit": CHANGE,
    "after a commit": rf"{CHANGE}\n.*",
    "before VACUUM": r"sql VACUUM",
    "in VACUUM": r"step of VACUUM",
    "after VACUUM": r"sql PRAGMA wal_checkpoint.*",
    "between files": r"open \S*/generations/\.base/ids.npy w",
    "before the vectors go": r"os.remove \S*/\.base/vectors.npy.*",
    "between links": r"os.link \S*/ids.npy \S*",
    "after the changes": r"open \S*/changes.npz .*\n.*",
    "before the manifest": r"os.rename \S* \S*/manifest.json",
    "before the folder's name": r"os.rename \S*/\.(?:base|publish) \S*/\d+",
    "after the folder's name": r"os.rename \S*/\.(?:base|publish) \S*/\d+\n.*",
    "before the switch": r"os.rename \S* \S*/CURRENT",
    "before clearing": r"shutil.rmtree \S*/generations/\d+ .*",
    "in clearing": r"os.remove \S*ids.npy.*",
    "after the files are cleared": r"os.rmdir \S*/generations/\d+",
    "before the old photos are set aside": r"sql ALTER TABLE photos RENAME.*",
    "before some are taken out": MOVED,
    "before some are moved": rf"{MOVED}\nsql COMMIT",
    "after some are moved": rf"{MOVED}\nsql COMMIT\n.*",
    "before the old table goes": r"sql DROP TABLE photos_before",
    "before the new layout is told": r"sql PRAGMA user_version = \d+",
    "before the last commit of all": r"sql PRAGMA user_version = \d+\nsql COMMIT",
    "before removals are forgotten": r"sql UPDATE facts SET value = max.*\nsql COMMIT",
}
NAMED = ["before the manifest", "before the folder's name", "after the folder's name", "before the switch"]
CLEARED = ["before clearing", "in clearing", "after the files are cleared"]
FORGOTTEN = "before removals are forgotten"
COMMITTED = ["before a commit", "after a commit"]
MOVING = ["before some are taken out", "before some are moved", "after some are moved"]
CASES = {
    "build": ["before a model's file", *COMMITTED, "between files", *NAMED],
    "add": [*COMMITTED, "between links", "after the changes", *NAMED, *CLEARED],
    "remove": [*COMMITTED, "between links", "before the switch", "in clearing"],
    "sync": [*COMMITTED, "after the changes", "before the switch"],
    "compact": [
        "before VACUUM",
        "in VACUUM",
        "after VACUUM",
        "between files",
        "before the vectors go",
        *NAMED,
        *CLEARED,
        FORGOTTEN,
    ],
    "publish": ["between files", *NAMED, *CLEARED, FORGOTTEN],
    "upgrade": [
        "before the old photos are set aside",
        *MOVING,
        "before the old table goes",
        "before the new layout is told",
        "before the last commit of all",
    ],
}
OCCURRENCES = {"in VACUUM": 20} | dict.fromkeys(MOVING, 2)


def run_job(job, path, model, folder):
    """Returns the report of a job that adds photos."""
    if job == "build":
        with closing(Gallery.create(path, model)) as gallery:
            return index_photos(gallery, list_photos(folder), "cpu")
    if job == "upgrade":
        with mock.patch("index.gallery.schema._BATCH", 32):
            return Gallery.open(path, write=True).close()
    with closing(Gallery.open(path, write=True)) as gallery:
        if job == "add":
            return index_photos(gallery, list_photos(folder / "more"), "cpu")
        if job == "remove":
            return remove_photos(gallery, REMOVED)
        if job == "sync":
            return sync_photos(gallery, folder, "cpu")
        if job == "publish":  # what a service has its child do
            gallery.configure("codes", None)
            return gallery.publish_changes()
        return compact(gallery)


def watch(see):
    """Tells ``see`` of every SQL statement, every step of a long one, and every change of a file, before it is done."""
    connect = sqlite3.connect

    def traced(*arguments, **options):
        connection, statement = connect(*arguments, **options), ""

        def begin(text):
            nonlocal statement
            statement = " ".join(text[:60].split())
            see(f"sql {statement}")

        connection.set_trace_callback(begin)
        connection.set_progress_handler(lambda: see(f"step of {statement}"), 10)
        return connection

    def audit(event, arguments):
        written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if written or event in ("os.rename", "os.link", "os.remove", "os.rmdir", "shutil.rmtree"):
            see(f"{event} {arguments[0]} {arguments[1]}".removesuffix(" -1"))

    sqlite3.connect = traced
    sys.addaudithook(audit)


def run_and_die(step, occurrence, *job):
    """Runs a job in a process of its own, which ends at the given occurrence of a step."""
    lines, left = ["", "", ""], occurrence

    def see(line):
        nonlocal left
        if line.startswith("step of ") and "VACUUM" not in line:
            return
        lines[:] = [*lines[1:], line]
        if re.search(rf"^{STEPS[step]}\Z", "\n".join(lines), flags=re.M):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    watch(see)
    run_job(*job)


def run_and_tell(started, *job):
    started.set()
    run_job(*job)


def make_gallery(job, before, path):
    """What a job begins with: a copy of a gallery, of an earlier version if the job is to upgrade it."""
    shutil.copytree(before, path)
    if job == "upgrade":
        as_earlier(path / "catalogue.sqlite")
    return path


def state(path):
    """What a gallery holds: facts, content and vectors by URI; and its ids, which no two photos share."""
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []
        ids, vectors = gallery.catalogue.vectors(16)
        photos = gallery.catalogue.photos(ids.tolist())
    assert Searcher.open(path, "cpu").count == len(ids)
    rows = {photos[i].uri: (photos[i].sha256, vector) for i, vector in zip(ids.tolist(), vectors, strict=True)}
    assert len(rows) == len(ids)
    return rows


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")  # forks from a process that has imported everything once
    context.set_forkserver_preload(["tests.index.test_faults"])
    return context


@pytest.fixture(scope="module")
def scene(tiny_bundle, tmp_path_factory):
    """A folder of pictures, a gallery of most of them, and what every job must lead to."""
    root = tmp_path_factory.mktemp("faults")
    folder = root / "photos"
    for part, variants in (("first", range(20)), ("more", range(20, 30))):
        (folder / part).mkdir(parents=True)
        for shape in SHAPES:
            for variant in variants:
                draw_shape(shape, variant, filled=True, size=64 + variant).save(folder / part / f"{shape}{variant}.png")
    (folder / "more" / "broken.png").write_text("no picture")
    with closing(Gallery.create(root / "before", tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(folder / "first"), "cpu")
        assert gallery.publish().generation == 2  # the next one clears the first
    expected = {}
    for job in CASES:
        path = root / job
        if job != "build":
            make_gallery(job, root / "before", path)
        run_job(job, path, tiny_bundle, folder)
        expected[job] = state(path)
    assert [len(expected[job]) for job in CASES] == [120, 120, 67, 120, 80, 80, 80]
    return root / "before", folder, expected


def served(path):
    """Number and photos of the generation that searches see between a kill and the resumption; None without one."""
    if not (path / "CURRENT").exists():
        with pytest.raises(GalleryDamaged, match="half-written: no generation is published"):
            load_generation(path)
        return None
    generation = load_generation(path)
    return generation.manifest.generation, sum(len(ids) for ids, _ in generation.blocks())


def check_resumption(job, path, model, folder, expected):
    """The same command ends where it would have ended without the kill."""
    report = run_job(job, path, model, folder)
    found = state(path)
    assert found.keys() == expected.keys()
    for uri, (sha256, vector) in found.items():
        assert sha256 == expected[uri][0]
        np.testing.assert_allclose(vector, expected[uri][1], atol=1e-5)
    assert list((path / "generations").glob(".*")) == []
    return report


@pytest.mark.parametrize(("job", "step"), [(job, step) for job, steps in CASES.items() for step in steps])
def test_a_job_killed_at_any_step_goes_on_and_loses_nothing(job, step, scene, processes, tiny_bundle, tmp_path):
    before, folder, expected = scene
    path = tmp_path / "gallery"
    if job != "build":
        make_gallery(job, before, path)
    occurrence = OCCURRENCES.get(step, 1)
    process = processes.Process(target=run_and_die, args=(step, occurrence, job, path, tiny_bundle, folder))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if step in (*CLEARED, FORGOTTEN):
        assert served(path) == (3, len(expected[job]))
    else:
        assert served(path) == (None if job == "build" else (2, 80))
    check_resumption(job, path, tiny_bundle, folder, expected[job])


@pytest.mark.parametrize(("step", "kept"), [("before a commit", 64), ("after a commit", 96)])
def test_a_killed_build_loses_at_most_a_batch(step, kept, scene, processes, tiny_bundle, tmp_path):
    _, folder, expected = scene
    path = tmp_path / "gallery"
    process = processes.Process(target=run_and_die, args=(step, 3, "build", path, tiny_bundle, folder))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    report = check_resumption("build", path, tiny_bundle, folder, expected["build"])
    assert report.unchanged in (kept, kept + 32)  # batches differ in size by what is ready when a busy machine writes
    assert report.encoded + report.copied == 120 - report.unchanged


@pytest.mark.skipif(not KILLS, reason="takes SVDRAW_TEST_KILLS, a number of kills")
@pytest.mark.parametrize("job", CASES)
def test_jobs_killed_at_random_moments_go_on_and_lose_nothing(job, scene, processes, tiny_bundle, tmp_path):
    before, folder, expected = scene
    chance, landed, wanted = random.Random(job), 0, -(-KILLS // len(CASES))

    def run(path, seconds):
        """How long the job took, and how its process ended, which is killed after so many seconds."""
        started = processes.Event()
        process = processes.Process(target=run_and_tell, args=(started, job, path, tiny_bundle, folder))
        process.start()
        assert started.wait(60)
        beginning = time.perf_counter()
        process.join(seconds)
        process.kill()
        process.join()
        return time.perf_counter() - beginning, process.exitcode

    def gallery(name):
        return tmp_path / name if job == "build" else make_gallery(job, before, tmp_path / name)

    whole, ending = run(gallery("whole"), None)
    assert ending == 0
    for number in range(3 * wanted):
        path = gallery(f"killed-{number}")
        for _ in range(2):
            took, ending = run(path, 0.9 * chance.random() * whole)
            assert ending in (0, -signal.SIGKILL)
            landed += ending == -signal.SIGKILL
            whole = min(whole, took) if ending == 0 else whole
            if job != "build":
                assert served(path)[1] in (80, len(expected[job]))
        check_resumption(job, path, tiny_bundle, folder, expected[job])
        if landed >= wanted:
            return
    pytest.fail(f"{landed} kills landed, not {wanted}")


def test_readers_see_one_generation_or_the_other(fill):
    path = fill(decaying(300, 16))
    counts, seen, done = {1: 300}, set(), threading.Event()

    def read():
        while not done.is_set():
            searcher = Searcher.open(path, "cpu")
            hits = searcher.search(np.ones((1, 16), np.float32), 1000)[0]
            seen.add((searcher.generation, searcher.count, len({hit.id for hit in hits})))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(2, 14):
        fill(decaying(1, 16, number), start=300 + number, kind="codes" if number % 4 == 0 else "exact")
        counts[number] = 299 + number
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert all(count == found == counts[generation] for generation, count, found in seen)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kind", ["exact", "codes", "disk"])
def test_a_full_disk_leaves_the_old_generation(fill, small_disk, kind):
    path = Path(shutil.copytree(fill(decaying(2000, 16), kind=kind), small_disk / "gallery"))
    before = Searcher.open(path, "cpu").search(decaying(1, 16, 9), 5, recall=1)
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1k"], capture_output=True, check=False)
    with filler.open("rb+") as file:
        file.truncate(filler.stat().st_size - 60_000)  # room to begin, not to end
    with closing(Gallery.open(path, write=True)) as gallery:
        with pytest.raises(GalleryError, match="free some space"):
            gallery.publish()
        assert read_generation(path).generation == 1
        assert Searcher.open(path, "cpu").search(decaying(1, 16, 9), 5, recall=1) == before
        filler.unlink()
        assert compact(gallery).generation == 2
        assert gallery.problems() == []
