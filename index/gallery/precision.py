"""The precision that a gallery's photos are embedded in, which every photo added later is embedded in as well.

Sketches may be embedded in another: measured, a search finds as much among photos in eight bits with sketches in single
precision as with both in eight bits.
"""

from typing import Literal

from index.errors import ModelMismatch
from index.gallery.catalogue import Catalogue
from training.inference.runners import Runner, build_runner
from training.model.bundle import Bundle

__all__ = ["PhotoPrecision", "photo_precision", "photo_runner", "record_precision", "recorded_precision"]

PhotoPrecision = Literal["auto", "fp32", "int8"]
_FACT = "precision"


def recorded_precision(catalogue: Catalogue) -> str | None:
    """One of ``BundleManifest.precisions``; None before the first photo."""
    known = catalogue.fact(_FACT)
    if known is None and catalogue.has_others([]):
        return "fp32"  # earlier versions knew no other, and recorded none
    return known


def photo_precision(catalogue: Catalogue, bundle: Bundle, wanted: PhotoPrecision = "auto") -> PhotoPrecision:
    """What a photo must be embedded in; ``auto`` if there is none yet, and any will do.

    Raises:
        ModelMismatch: if another precision is wanted than the photos have, or the model no longer has their ranges.
    """
    known = recorded_precision(catalogue)
    if known is None:
        return wanted
    name: PhotoPrecision = "int8" if known.startswith("int8") else "fp32"
    if wanted not in ("auto", name):
        raise ModelMismatch(
            f"the gallery was built in {name}, not in {wanted}; vectors of two precisions cannot be mixed: build a new "
            "gallery with another --out"
        )
    if known not in bundle.manifest.precisions:
        raise ModelMismatch(
            "the gallery's model holds other eight-bit ranges than those that made its vectors; put back the model "
            "that it was built with, or build the gallery again"
        )
    return name


def photo_runner(
    catalogue: Catalogue, bundle: Bundle, wanted: PhotoPrecision = "auto", *, images: int | None = None
) -> Runner:
    """Runs the photo encoder in the precision of a gallery, which is recorded; call it while writing to the gallery.

    Args:
        catalogue: of the gallery, opened for writing.
        bundle: the gallery's model.
        wanted: precision of the first photos. ``auto`` chooses eight bits on a CPU where the model allows them and they
            are quicker, else single precision.
        images: see ``build_runner``.

    Raises:
        ModelMismatch: see ``photo_precision``.
        BundleError: if eight bits are asked for, and the model cannot be run in them.
    """
    precision = photo_precision(catalogue, bundle, wanted)
    if precision == "auto" and bundle.device.type != "cpu":
        precision = "fp32"
    runner = build_runner(bundle.photo, precision=precision, int8=bundle.int8("photo"), images=images)
    single, *whole = bundle.manifest.precisions
    record_precision(catalogue, whole[0] if runner.precision == "int8" else single)
    return runner


def record_precision(catalogue: Catalogue, precision: str) -> None:
    """Records one of ``BundleManifest.precisions``; call it while writing to the gallery."""
    catalogue.set_facts({_FACT: precision})
