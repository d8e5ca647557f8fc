import asyncio

import pytest

from service.engine.line import Line
from service.engine.siblings import Siblings


class Gallery:
    """A gallery that others change; a job may be writing to it."""

    def __init__(self):
        self.revision, self.seen, self.job = 0, 0, False
        self.looks = self.caught_up = 0

    def is_behind(self):
        self.looks += 1
        return self.revision > self.seen

    def catch_up(self):
        self.caught_up += 1
        if not self.job:
            self.seen = self.revision


@pytest.fixture
def gallery():
    return Gallery()


def test_only_changes_of_others_are_taken_over(gallery):
    siblings = Siblings(Line(), gallery.is_behind, gallery.catch_up)
    asyncio.run(siblings.meet())
    assert gallery.caught_up == 0
    gallery.revision = 3
    asyncio.run(siblings.meet())
    assert (gallery.seen, gallery.caught_up) == (3, 1)


def test_requests_do_not_look_all_the_time_while_a_job_writes(gallery):
    gallery.revision, gallery.job = 3, True
    now = [1.0]
    siblings = Siblings(Line(), gallery.is_behind, gallery.catch_up, lambda: now[0])

    async def run():
        for _ in range(10):
            await siblings.meet()
        now[0] = 1.6
        gallery.job = False
        await siblings.meet()

    asyncio.run(run())
    assert (gallery.seen, gallery.caught_up) == (3, 2)


def test_a_request_is_answered_although_other_changes_take_long(gallery, monkeypatch):
    monkeypatch.setattr("service.engine.siblings._PATIENCE", 0.01)
    gallery.revision, line = 3, Line()
    siblings = Siblings(line, gallery.is_behind, gallery.catch_up)

    async def run():
        release = asyncio.Event()
        taken = asyncio.Event()

        async def hold():
            async with line._turn:
                taken.set()
                await release.wait()

        holding = asyncio.create_task(hold())
        await taken.wait()
        await siblings.meet()
        assert gallery.caught_up == 0
        release.set()
        await holding

    asyncio.run(run())
