"""Publishes a model bundle on a hub, with a card that says what it was trained on and what it finds."""

import tempfile
from pathlib import Path

from training.base.artifacts import write_text
from training.base.errors import BundleError
from training.model.bundle import copy_bundle
from training.model.hub import HubName
from training.model.manifest import BundleManifest
from training.model.starter import Terms, terms_of

__all__ = ["model_card", "push_bundle"]

_CLASSES = 200  # named on the card; more are counted


def push_bundle(directory: Path, name: HubName, *, private: bool = False) -> str:
    """Uploads a bundle with its card, as one commit; the repository is created if it is missing.

    Args:
        directory: folder of the bundle.
        name: where to; a revision is a branch that exists already.
        private: whether a repository that is created can be seen by its owners only.

    Returns:
        The commit, by which this very version can be named as a revision.

    Raises:
        BundleError: if the bundle is damaged, or the hub does not take it.
    """
    from huggingface_hub import HfApi

    hub = HfApi(library_name="svdraw")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = copy_bundle(directory, folder)  # verified, and nobody changes it on the way
        write_text(folder / "README.md", model_card(manifest, name))
        try:
            hub.create_repo(name.repository, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=name.repository,
                folder_path=folder,
                revision=name.revision,
                commit_message=f"svdraw model {manifest.digest[:12]}",
            )
        except Exception as error:  # the hub client raises many kinds of errors, which all mean the same here
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BundleError(
                f"{name} was not published ({reason}); log in with `hf auth login`, or set HF_TOKEN to a token that "
                "may write there"
            ) from error
    return str(commit.oid)


def model_card(manifest: BundleManifest, name: HubName) -> str:
    """The card of a model, in Markdown with the fields that hubs read.

    Args:
        manifest: of the bundle.
        name: where the model is published.
    """
    training, encoders = manifest.training, manifest.encoders
    rows = [
        ("backbone", encoders.backbone),
        ("image size", f"{encoders.sketch.preprocessing.size} pixels"),
        ("dimensions", len(manifest.spectrum)),
        ("dimensions that found most on held-out classes", manifest.best_dimensions),
        ("dimensions that keep 99% of mAP there", manifest.sufficient_dimensions),
        ("relevance", f"fitted on {manifest.calibration.classes} held-out classes" if manifest.calibration else None),
        *((f"trained on {kind}", count) for kind, count in training.images.items()),
        *((f"{figure.replace('_', ' ')} while training", f"{value:.4g}") for figure, value in training.figures.items()),
        ("digest", f"`{manifest.digest}`"),
        ("made", f"{manifest.created}, with svdraw {manifest.versions.get('svdraw', 'of unknown version')}"),
    ]
    table = "\n".join(f"| {fact} | {value} |" for fact, value in rows if value is not None)
    unseen = f"\n\nHeld out of training by its split: {_listed(training.unseen)}." if training.unseen else ""
    return f"""---
library_name: svdraw
pipeline_tag: image-feature-extraction
tags: [svdraw, sketch, image-retrieval, sketch-based-image-retrieval]
---

# {name.repository}

Finds photos by drawing them. A sketch encoder and a photo encoder embed into one space, whose leading coordinates can
be searched alone.

    pip install "svdraw[all,hub]"
    svdraw index build --model hf://{name.repository} --photos PHOTOS --out gallery
    svdraw serve --gallery gallery

| | |
| --- | --- |
{table}

## Training data

{_listed(training.classes)}.{unseen}

## Licence

The weights depend on the data they were trained on, and on the pretrained weights of the backbone, {encoders.backbone}.
State here under which licence you publish them, and see to it that those of the data and of the backbone allow it.
{_sources(terms_of(manifest))}"""


def _sources(terms: Terms | None) -> str:
    if terms is None:
        return ""
    rows = "".join(f"- {each.name} ({each.url}), by {each.by}: {each.licence}\n" for each in terms.sources)
    return f"\nIn these weights there are those of the {terms.name}: {terms.summary}. It was made from\n\n{rows}"


def _listed(classes: tuple[str, ...]) -> str:
    if not classes:
        return "Classes are not recorded"
    more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
    return f"{len(classes)} classes: {', '.join(classes[:_CLASSES])}{more}"
