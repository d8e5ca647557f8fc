"""What was acknowledged outlives every kill, of services and of jobs.

Every test run does some changes with four kills; SVDRAW_FUZZ_MINUTES has it do a thousand with fifty.
"""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.hostile.conftest import MINUTES
from tests.hostile.durability import Endurance, Ledger
from tests.hostile.nursery import Nursery

pytestmark = pytest.mark.long

OPERATIONS, KILLS = (1000, 50) if MINUTES else (60, 4)


def test_nothing_acknowledged_is_lost(nursery: Nursery, gallery: Path, shapes: Path, tmp_path: Path) -> None:
    own = shutil.copytree(gallery, tmp_path / "gallery")
    kept = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (shapes / "photo").rglob("*.png")}
    endurance = Endurance(nursery, own, tmp_path, kept, seed=0)
    endurance.run(OPERATIONS, KILLS)
    endurance.check()
    assert endurance.finish() == []
    print(f"{OPERATIONS} changes, {KILLS} kills: {dict(sorted(endurance.counts.items()))}")  # noqa: T201
    assert endurance.counts["service killed"] > 0


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger({"old"})
    for photo, is_there in (("added", True), ("refused", False)):
        ledger.ask(photo)
        ledger.settle(photo, is_there=is_there)
    ledger.ask("removed")
    ledger.settle("removed", is_there=False)
    ledger.ask("cut off")
    return ledger


@pytest.mark.parametrize("found", [{"old", "added"}, {"old", "added", "cut off"}])
def test_what_was_cut_off_may_be_there_or_not_and_stays_so(ledger: Ledger, found: set[str]) -> None:
    ledger.check(found)
    ledger.check(found)
    with pytest.raises(AssertionError):
        ledger.check(found ^ {"cut off"})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"old"}, "1 photos are lost that were acknowledged: .'added'"),
        ({"added"}, "1 photos are lost"),
        ({"old", "added", "removed"}, "1 photos are there that were removed"),
        ({"old", "added", "refused"}, "1 photos are there that were removed"),
        ({"old", "added", "strange"}, "1 photos are there that nobody added"),
    ],
)
def test_the_ledger_sees_what_is_wrong(ledger: Ledger, found: set[str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        ledger.check(found)


def test_a_removal_that_was_cut_off_may_have_happened(ledger: Ledger) -> None:
    ledger.ask("added")
    ledger.check({"old"})
    with pytest.raises(AssertionError, match="that were removed"):
        ledger.check({"old", "added"})
