"""The model bundle: a folder with ``model.safetensors`` and ``model.json``, from which the encoders are rebuilt.

A model that was quantised has ``int8.safetensors`` as well.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.base.artifacts import atomic_write, file_sha256
from training.base.errors import BundleError
from training.model.backbones import build_backbone
from training.model.calibration import Calibration
from training.model.devices import resolve_device
from training.model.encoders import Encoder, Modality, PairedEncoders, Views, build_encoders
from training.model.manifest import (
    MANIFEST_NAME,
    WEIGHTS_NAME,
    BundleManifest,
    TrainingRecord,
    local_folder,
    read_manifest,
    write_manifest,
)
from training.model.quantisation import INT8_NAME, Int8, Quantisation, read_int8
from training.model.tensors import load_tensors, module_tensors, restore_module, save_tensors

__all__ = ["Bundle", "copy_bundle", "load_bundle", "save_bundle", "set_calibration", "set_int8"]

_BATCH = 32
_ROUNDING = 5e-4  # of the length of a row; that of numbers in half precision is at most so much of each


class Bundle:
    """Encoders ready to use, with their manifest.

    Args:
        manifest: manifest of the bundle.
        encoders: both encoders; they are moved to ``device`` and put in evaluation mode.
        device: device that computes embeddings.
        int8: what both backbones need to run in eight bits.
    """

    def __init__(
        self, manifest: BundleManifest, encoders: PairedEncoders, device: torch.device, int8: Int8 | None = None
    ) -> None:
        self._int8 = int8
        self.manifest = manifest
        self.encoders = encoders.to(device).eval()
        self.device = device

    @property
    def sketch(self) -> Encoder:
        """The sketch encoder."""
        return self.encoders.sketch

    @property
    def photo(self) -> Encoder:
        """The photo encoder."""
        return self.encoders.photo

    @property
    def dim(self) -> int:
        """Number of embedding coordinates."""
        return self.encoders.dim

    @property
    def digest(self) -> str:
        """Identity of the model; see ``BundleManifest.digest``."""
        return self.manifest.digest

    @property
    def spectrum(self) -> tuple[float, ...]:
        """Singular values, ``(dim,)``, descending."""
        return self.manifest.spectrum

    @property
    def default_dimensions(self) -> int:
        """Dimensions that a search compares by default: those that find most, or all if this was not measured."""
        return min(self.manifest.best_dimensions or self.manifest.sufficient_dimensions or self.dim, self.dim)

    def int8(self, modality: Modality) -> Int8 | None:
        """What the backbone of a modality needs to run in eight bits; None if the model was not quantised."""
        return self._int8 and self._int8.part(modality)

    def encode(self, encoder: Encoder, batch: Tensor) -> NDArray[np.float32]:
        """Embeds one preprocessed batch.

        Args:
            encoder: the ``sketch`` or ``photo`` encoder of this bundle.
            batch: ``(n, 3, size, size)`` float32, from ``encoder.preprocessing``.

        Returns:
            The embeddings, ``(n, dim)``.
        """
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = encoder(batch.to(self.device, non_blocking=True)).float().cpu().numpy()
        return embeddings

    def encode_sketches(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embeds RGB sketches, ``(n, dim)``."""
        return self._encode_images(self.sketch, images)

    def encode_photos(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embeds RGB photos, ``(n, dim)``."""
        return self._encode_images(self.photo, images)

    def _encode_images(self, encoder: Encoder, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        parts = [self.encode(encoder, torch.stack([encoder.preprocessing(i) for i in batch])) for batch in batches]
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])


def save_bundle(
    directory: Path,
    encoders: PairedEncoders,
    spectrum: Sequence[float],
    training: TrainingRecord | None = None,
    *,
    best_dimensions: int | None = None,
    sufficient_dimensions: int | None = None,
    calibration: Calibration | None = None,
    int8: tuple[Mapping[str, Tensor], Callable[[str], Quantisation]] | None = None,
    half: bool = False,
) -> BundleManifest:
    """Writes a bundle. An earlier bundle in the same place is replaced only when the new one is complete.

    Args:
        directory: folder of the bundle; it is created if it is missing.
        encoders: encoders to save.
        spectrum: singular values ``(dim,)``, descending.
        training: where the model comes from.
        best_dimensions: see ``BundleManifest``.
        sufficient_dimensions: see ``BundleManifest``.
        calibration: see ``BundleManifest``.
        int8: what the backbones need in eight bits, and what is said of it; see ``set_int8``.
        half: store the backbones in half precision, and matrices of the heads too; not those with a row that would
            change by more than rounding, because it is too small for half precision: small coordinates matter.
    """
    tensors = module_tensors(encoders)
    if half:
        tensors = {name: tensor.half() if _may_be_half(name, tensor) else tensor for name, tensor in tensors.items()}
    with atomic_write(directory / WEIGHTS_NAME) as temporary:
        save_tensors(temporary, tensors)
        manifest = BundleManifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            encoders=encoders.config,
            spectrum=tuple(float(value) for value in spectrum),
            best_dimensions=best_dimensions,
            sufficient_dimensions=sufficient_dimensions,
            calibration=calibration,
            int8=_write_int8(directory, *int8) if int8 else None,
            weights_sha256=file_sha256(temporary),
            training=training or TrainingRecord(),
            versions={name: version(name) for name in ("svdraw", "torch", "torchvision", "timm", "pillow")},
        )
    write_manifest(directory, manifest)
    return manifest


def _may_be_half(name: str, tensor: Tensor) -> bool:
    if ".backbone." in name:
        return True
    if tensor.ndim != 2:
        return False
    changes = (tensor.half().float() - tensor).norm(dim=1)
    return bool((changes <= _ROUNDING * tensor.norm(dim=1)).all())


def set_calibration(directory: Path, calibration: Calibration) -> BundleManifest:
    """Adds a calibration to a bundle, in place of an earlier one. Encoders and digest stay as they are.

    Raises:
        BundleError: if there is no bundle, or it is named by another name than its folder.
    """
    if local_folder(directory) != directory:
        raise BundleError(f"{directory} is a name, under which nothing can be changed; calibrate a copy of the model")
    manifest = read_manifest(directory).model_copy(update={"calibration": calibration})
    write_manifest(directory, manifest)
    return manifest


def set_int8(directory: Path, tensors: Mapping[str, Tensor], record: Callable[[str], Quantisation]) -> BundleManifest:
    """Adds to a bundle what its backbones need in eight bits, in place of what was there. Its digest stays as it is.

    Args:
        directory: folder of the bundle.
        tensors: see ``Int8``.
        record: makes what the manifest says of them from the SHA-256 of their file.

    Raises:
        BundleError: if there is no bundle, or it is named by another name than its folder.
    """
    if local_folder(directory) != directory:
        raise BundleError(f"{directory} is a name, under which nothing can be changed; quantise a copy of the model")
    manifest = read_manifest(directory).model_copy(update={"int8": None})
    write_manifest(directory, manifest)  # until the file is there, the model has none
    manifest = manifest.model_copy(update={"int8": _write_int8(directory, tensors, record)})
    write_manifest(directory, manifest)
    return manifest


def _write_int8(directory: Path, tensors: Mapping[str, Tensor], record: Callable[[str], Quantisation]) -> Quantisation:
    with atomic_write(directory / INT8_NAME) as temporary:
        save_tensors(temporary, tensors)
        return record(file_sha256(temporary))


def load_bundle(directory: Path, device: str = "auto") -> Bundle:
    """Rebuilds the encoders of a bundle.

    Args:
        directory: folder with ``model.json`` and ``model.safetensors``, or the name of the bundle on a hub.
        device: see ``resolve_device``.

    Raises:
        BundleError: if the bundle is missing, damaged or of another version, or its files do not belong together.
        TrainingError: if the device does not exist.
    """
    directory = local_folder(directory)
    manifest = read_manifest(directory)
    _check_weights(directory, manifest)
    config = manifest.encoders
    backbones = [
        build_backbone(config.backbone, multi_scale=config.multi_scale, pooling=config.pooling)
        for _ in range(1 if config.share_backbone else 2)
    ]
    encoders = build_encoders(config, *backbones)
    try:
        restore_module(encoders, load_tensors(directory / WEIGHTS_NAME))
    except ValueError as error:
        raise BundleError(f"{directory / WEIGHTS_NAME} does not fit {MANIFEST_NAME}: {error}") from error
    int8 = read_int8(directory, manifest.int8) if manifest.int8 else None
    return Bundle(manifest, encoders, resolve_device(device), int8)


def copy_bundle(source: Path, destination: Path) -> BundleManifest:
    """Copies a bundle's files and verifies them. An earlier bundle at the destination is replaced.

    Raises:
        BundleError: if the source is missing or damaged, or its files do not belong together.
    """
    source = local_folder(source)
    manifest = read_manifest(source)
    _check_weights(source, manifest)
    if manifest.int8:
        read_int8(source, manifest.int8)
    for name in (WEIGHTS_NAME, *([INT8_NAME] if manifest.int8 else []), MANIFEST_NAME):
        with atomic_write(destination / name) as temporary:
            shutil.copyfile(source / name, temporary)
    return manifest


@contextmanager
def bundle_with_views(source: Path, views: Views | None) -> Iterator[Path]:
    """A bundle whose photo encoder averages over so many views of each photo, and which is another model therefore.

    Args:
        source: folder of the bundle, or its name on a hub; it stays as it is.
        views: see ``Encoder.views``; None leaves the number as it is.

    Yields:
        Folder of the bundle: a temporary copy, unless the source has that many views already.

    Raises:
        BundleError: if the source is missing or damaged.
    """
    encoders = read_manifest(source).encoders
    if views in (None, encoders.photo.views):
        yield source
        return
    with TemporaryDirectory(prefix="svdraw-") as folder:
        manifest = copy_bundle(source, Path(folder))
        photo = encoders.photo.model_copy(update={"views": views})
        changed = {"encoders": encoders.model_copy(update={"photo": photo})}
        write_manifest(Path(folder), manifest.model_copy(update=changed))
        yield Path(folder)


def _check_weights(directory: Path, manifest: BundleManifest) -> None:
    path = directory / WEIGHTS_NAME
    try:
        actual = file_sha256(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; copy it from the run that made {MANIFEST_NAME}") from error
    if actual != manifest.weights_sha256:
        raise BundleError(
            f"{path} is not the file that {MANIFEST_NAME} describes (damaged, or of another model); "
            "copy both files of the bundle again"
        )
