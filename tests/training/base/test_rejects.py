"""The list of rejected images: every one of them in the file, a few of them in the log."""

import json

import pytest

from training.base.errors import ImageError, ImageTooLarge
from training.base.rejects import reject_reason, report_rejects


def listed(path):
    return [(row["file"], row["reason"]) for row in map(json.loads, path.read_text().splitlines())]


def test_all_are_listed_and_a_few_are_logged(tmp_path, caplog):
    reasons = {f"{number}.png": "empty file" for number in range(9)}
    report_rejects(tmp_path / "rejects.jsonl", reasons, 20)
    assert listed(tmp_path / "rejects.jsonl") == list(reasons.items())
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == f"9 of 20 images rejected; all are listed in {tmp_path / 'rejects.jsonl'}"
    assert messages[1:] == [f"  {number}.png: empty file" for number in range(5)]


def test_a_list_is_replaced_unless_it_is_added_to(tmp_path):
    path = tmp_path / "rejects.jsonl"
    report_rejects(path, {"a": "1"}, 2)
    report_rejects(path, {"b": "2", "a": "3"}, 2, add=True)
    assert listed(path) == [("a", "3"), ("b", "2")]
    report_rejects(path, {}, 2, add=True)
    assert len(listed(path)) == 2
    report_rejects(path, {"c": "4"}, 2)
    assert listed(path) == [("c", "4")]


def test_a_list_may_be_added_to_before_it_is_there(tmp_path):
    report_rejects(tmp_path / "new.jsonl", {"a": "1"}, 1, add=True)
    assert listed(tmp_path / "new.jsonl") == [("a", "1")]


def test_without_rejects_the_list_is_empty_and_nothing_is_logged(tmp_path, caplog):
    report_rejects(tmp_path / "rejects.jsonl", {}, 3)
    assert (tmp_path / "rejects.jsonl").read_text() == ""
    assert not caplog.records


def test_names_that_are_no_text_or_hold_a_line_are_one_line_each(tmp_path, caplog):
    reasons = {"caf\udce9.png": "empty file", "two\nlines.png": "empty file"}
    report_rejects(tmp_path / "rejects.jsonl", reasons, 2)
    assert listed(tmp_path / "rejects.jsonl") == [("caf\\udce9.png", "empty file"), ("two\nlines.png", "empty file")]
    # the messages, not the text: what other tests set up says how that is formatted
    assert any("caf\\udce9.png: empty file" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImageError("empty file"), "empty file"),
        (ImageTooLarge("9 x 9 px"), "9 x 9 px"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (OSError("no network"), "no network"),
        (RuntimeError("password required"), "password required"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_reasons_hold_no_path(error, reason):
    assert reject_reason(error) == reason
