import json

import pytest

from training.base.errors import BundleError
from training.model.bundle import MANIFEST_NAME, read_manifest
from training.model.hub import HubName
from training.model.publication import model_card
from training.model.starter import STARTER_MODEL, read_terms, terms_of


def started_from(manifest, start):
    """The manifest of another model whose training started from this folder."""
    record = manifest.training.model_copy(update={"settings": {"start": start}})
    return manifest.model_copy(update={"training": record})


def test_the_terms_of_the_starter_model_go_with_it_and_with_what_is_adapted_from_it(tiny_bundle):
    terms = read_terms(STARTER_MODEL)
    tiny = read_manifest(tiny_bundle)
    assert terms_of(read_manifest(STARTER_MODEL)) == terms
    assert terms_of(started_from(tiny, str(STARTER_MODEL))) == terms
    assert terms_of(started_from(tiny, "/elsewhere/site-packages/training/model/starter")) == terms
    for other in (None, "/data/models/starter", str(tiny_bundle)):
        assert terms_of(started_from(tiny, other)) is None
    assert terms_of(tiny) is None


def test_a_model_of_before_there_was_a_choice_of_pooling_keeps_its_identity():
    stored = json.loads((STARTER_MODEL / MANIFEST_NAME).read_text())
    assert "pooling" not in stored["encoders"]
    assert json.loads(read_manifest(STARTER_MODEL).encoders.model_dump_json()) == stored["encoders"]
    chosen = read_manifest(STARTER_MODEL).encoders.model_copy(update={"pooling": "mean-max"})
    assert chosen.model_dump(mode="json") == stored["encoders"] | {"pooling": "mean-max"}


def test_the_card_of_such_a_model_names_them(tiny_bundle):
    tiny, name = read_manifest(tiny_bundle), HubName("org/mine", None)
    for source in read_terms(STARTER_MODEL).sources:
        row = f"- {source.name} ({source.url}), by {source.by}: {source.licence}"
        assert row in model_card(read_manifest(STARTER_MODEL), name)
        assert source.url not in model_card(tiny, name)


@pytest.mark.parametrize("content", [None, "{}", "nonsense", '{"name": "x", "summary": "y", "sources": [], "more": 1}'])
def test_terms_that_are_missing_or_damaged_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "terms.json").write_text(content)
    with pytest.raises(BundleError, match=r"terms\.json is missing or damaged"):
        read_terms(tmp_path)
