import json
from pathlib import Path

import pytest

from training.base.errors import BundleError
from training.model.bundle import read_manifest, set_calibration
from training.model.hub import SHIPPED_MODELS, HubName
from training.model.manifest import local_folder
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


def test_a_model_of_before_there_was_a_choice_of_pooling_keeps_its_identity(tiny_bundle):
    encoders = read_manifest(tiny_bundle).encoders
    stored = json.loads(encoders.model_dump_json())
    assert "pooling" not in stored
    assert encoders.pooling == "mean"
    chosen = encoders.model_copy(update={"pooling": "mean-max"})
    assert chosen.model_dump(mode="json") == stored | {"pooling": "mean-max"}


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


def test_models_that_ship_are_known_by_their_names(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in SHIPPED_MODELS:
        named = Path(folder.name)
        assert local_folder(named) == folder
        assert read_manifest(named) == read_manifest(folder)
        assert terms_of(started_from(read_manifest(tiny_bundle), folder.name)) == read_terms(folder)
        with pytest.raises(BundleError, match=f"{folder.name} is a name, under which nothing can be changed"):
            set_calibration(named, None)
        named.mkdir()  # a folder of one's own wins
        assert local_folder(named) == named
    with pytest.raises(BundleError, match="no-such-starter"):
        read_manifest(Path("no-such-starter"))


def test_what_may_be_shared_says_so():
    terms = {folder.name: read_terms(folder) for folder in SHIPPED_MODELS}
    research = {name for name, each in terms.items() if "LicenseRef-research-only" in {s.licence for s in each.sources}}
    assert research == {"starter"}
