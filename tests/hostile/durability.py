"""Photos are added and removed while services and jobs are killed; a ledger knows what must be there afterwards."""

import hashlib
import io
import random
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from index.gallery.directory import Gallery
from service.client.rest import Client, ServiceProblem
from tests.hostile.conftest import KEY, start
from tests.hostile.nursery import Child, Nursery

WITHIN = 0.06  # seconds from the kill of a service being decided to the kill: as long as a few requests take
JOB_WITHIN = 1.2  # the same for a job: about as long as one takes
JOBS = ("compact", "publish", "add")
SEARCHED = 1000  # photos that one search can list


class Ledger:
    """What was acknowledged; photos are named by their SHA-256.

    Attributes:
        kept: photos that must be there.
        gone: photos that must not be there.
        unsure: photos that may be there or not, because nobody answered what was asked of them.
    """

    def __init__(self, kept: set[str]) -> None:
        self.kept, self.gone, self.unsure = set(kept), set[str](), set[str]()

    def ask(self, photo: str) -> None:
        """Something was asked of a photo: from now on it may be there or not."""
        self.kept.discard(photo)
        self.unsure.add(photo)

    def settle(self, photo: str, *, is_there: bool) -> None:
        """An answer, or a refusal, says whether a photo is there."""
        self.unsure.discard(photo)
        (self.kept if is_there else self.gone).add(photo)

    def check(self, found: set[str]) -> None:
        """Compares with what is there; what nobody knew is known from then on."""
        lost, returned = self.kept - found, self.gone & found
        unknown = found - self.kept - self.gone - self.unsure
        assert not lost, f"{len(lost)} photos are lost that were acknowledged: {sorted(lost)[:5]}"
        assert not returned, f"{len(returned)} photos are there that were removed: {sorted(returned)[:5]}"
        assert not unknown, f"{len(unknown)} photos are there that nobody added: {sorted(unknown)[:5]}"
        for photo in list(self.unsure):
            self.settle(photo, is_there=photo in found)


class Endurance:
    """A gallery that is changed over REST and by jobs, which are killed at random moments.

    Args:
        nursery: starts the processes.
        gallery: folder of the gallery, to be changed.
        folder: for logs, and for the photos that jobs add.
        seed: of what is done and when.

    Attributes:
        ledger: what must be there.
        counts: what was done, by name.
    """

    def __init__(self, nursery: Nursery, gallery: Path, folder: Path, kept: set[str], seed: int) -> None:
        self._nursery, self._gallery, self._folder = nursery, gallery, folder
        self._random = random.Random(seed)
        self._number = 0
        self._more = folder / "more"
        self._more.mkdir()
        self._of_jobs = set[str]()
        self.ledger, self.counts = Ledger(kept), Counter[str]()
        self._start()

    def run(self, operations: int, kills: int) -> None:
        """Does so many changes, which were answered or cut off, and so many kills between and within them."""
        due = sorted(self._random.choices(range(operations), k=kills))
        while due or self._done < operations:
            if due and due[0] <= self._done:
                due.pop(0)
                self._kill_a_job() if self._random.random() < 0.5 else self._kill_the_service()
            else:
                self._change()

    def finish(self) -> list[str]:
        """Ends the service, lets jobs do their work undisturbed, and returns what is wrong with the gallery then."""
        self._client.close()
        self._victim.process.stop()
        for work in ("add", "publish"):
            assert self._job(work).wait(120)
        with closing(Gallery.open(self._gallery)) as gallery:
            found = {photo.sha256 for photo in gallery.catalogue.page(0, 1_000_000)}
            assert found >= self._of_jobs, "photos are missing that a job was to add"
            self.ledger.check(found - self._of_jobs)
            return gallery.problems()

    def check(self) -> None:
        """Compares what the service lists, and what it finds, with what must be there."""
        listed, after = dict[int, str](), 0
        while after is not None:
            page = self._client.photos(limit=1000, after=after)
            listed |= {photo.id: photo.sha256 for photo in page.photos}
            after = page.next_after
        self.ledger.check(set(listed.values()) - self._of_jobs)
        found = {result.id for result in self._client.search_like(min(listed), limit=SEARCHED).results}
        assert found <= listed.keys(), f"found and not listed: {sorted(found - listed.keys())}"
        expected = {photo for photo, sha in listed.items() if sha not in self._of_jobs} - {min(listed)}
        assert found >= expected or len(found) == SEARCHED, f"not found: {sorted(expected - found)}"
        for photo in self._random.sample(sorted(listed), min(10, len(listed))):
            assert hashlib.sha256(self._client.image(photo)).hexdigest() == listed[photo]
        self._ids = {sha: photo for photo, sha in listed.items()}

    def _start(self) -> None:
        self._victim = start(self._nursery, self._gallery, self._folder, reload_seconds=0.5, live_changes=3)
        self._client = Client(f"http://127.0.0.1:{self._victim.port}", key=KEY)
        self.check()

    @property
    def _done(self) -> int:
        """Changes that were answered or cut off."""
        return sum(self.counts[name] for name in ("add", "remove", "add: cut off", "remove: cut off"))

    def _change(self) -> None:
        """Adds or removes a photo."""
        content, known = self._picture(), sorted(self.ledger.kept)
        if len(known) > 2 and self._random.random() < 0.45:
            self._ask("remove", self._random.choice(known))
        else:
            self._ask("add", hashlib.sha256(content).hexdigest(), content)

    def _ask(self, name: str, photo: str, content: bytes | None = None) -> None:
        self.ledger.ask(photo)
        try:
            if content is None:
                self._client.remove_photo(self._ids[photo])
            else:
                self._ids[photo] = self._client.add_photo(content).id
        except ServiceProblem as problem:
            if problem.problem.status not in (409, 503):
                raise
            self.ledger.settle(photo, is_there=content is None)
            self.counts[f"{name}: refused while a job writes"] += 1
        except httpx.TransportError:
            self.counts[f"{name}: cut off"] += 1
            self._restart()
        else:
            self.ledger.settle(photo, is_there=content is not None)
            self.counts[name] += 1

    def _restart(self) -> None:
        assert self._victim.process.wait(60), "the service answers no more, though nobody killed it"
        self._client.close()
        self._start()

    def _kill_the_service(self) -> None:
        self._kill(self._victim.process, "service", WITHIN)

    def _kill_a_job(self) -> None:
        work = self._random.choice(JOBS)
        self._kill(self._job(work), f"job: {work}", JOB_WITHIN)

    def _kill(self, process: Child, name: str, within: float) -> None:
        """Kills a process at a random moment, while photos are added and removed."""
        was_running = []
        timer = threading.Timer(
            self._random.uniform(0, within), lambda: (was_running.append(process.is_alive()), process.kill())
        )
        timer.start()
        while process.is_alive():
            self._change()
        timer.join()
        self.counts[f"{name} killed" if was_running == [True] else f"{name} ended before it was killed"] += 1

    def _job(self, work: str) -> Child:
        options = {"gallery": str(self._gallery)}
        if work == "add":
            content = self._picture()
            self._of_jobs.add(hashlib.sha256(content).hexdigest())
            (self._more / f"{self._number}.png").write_bytes(content)
            options["photos"] = str(self._more)
        return self._nursery.start(work, self._folder / "jobs.log", **options)

    def _picture(self) -> bytes:
        """A picture that there was never before."""
        self._number += 1
        noise = np.random.default_rng(self._number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG")
        return buffer.getvalue()
