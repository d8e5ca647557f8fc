"""Backbones as ONNX graphs: each is exported once and kept in the user's cache; both modalities may share one."""

import copy
import hashlib
import json
import logging
import threading
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from training.base.artifacts import atomic_write
from training.model.encoders import Encoder
from training.model.tensors import module_tensors

__all__ = ["backbone_digest", "export_file", "exported_backbone"]

logger = logging.getLogger(__name__)
for exporter in ("onnx_ir", "onnxscript", "torch.onnx"):
    logging.getLogger(exporter).setLevel(logging.WARNING)  # the exporters report every constant that they fold

_KEPT = 20  # exports, of 14 MB each with the default backbone

_exporting = threading.Lock()


def backbone_digest(encoder: Encoder) -> str:
    """SHA-256 of the architecture and weights of an encoder's backbone, and of how it is used."""
    digest = hashlib.sha256()
    for name, tensor in module_tensors(encoder.backbone).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(json.dumps([encoder.backbone.widths, encoder.config.flip]).encode())
    return digest.hexdigest()


def export_file(encoder: Encoder, cache: Path) -> Path:
    """Where the export of an encoder's backbone is kept: its name says what the export depends on."""
    choices = [backbone_digest(encoder), str(encoder.preprocessing.size), torch.__version__]
    return cache / f"backbone-{hashlib.sha256(' '.join(choices).encode()).hexdigest()[:32]}.onnx"


def exported_backbone(encoder: Encoder, cache: Path) -> bytes:
    """An encoder's backbone as an ONNX model, from the cache if it is there whole.

    Args:
        encoder: in evaluation mode.
        cache: folder of exported backbones.
    """
    path = export_file(encoder, cache)
    if path.is_file():
        content = path.read_bytes()
        try:
            onnx.checker.check_model(content)
            return content
        except Exception as error:  # a damaged file; what reads it has no exceptions of its own
            logger.warning("%s cannot be loaded and is exported again: %s", path, str(error).splitlines()[0])
    logger.info("exporting the backbone for this CPU, which is done once for every model")
    with _exporting:  # the exporter changes what the whole process has
        content = _export(encoder)
    try:
        _forget_oldest(cache)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        logger.warning("the exported backbone cannot be saved, so the next start will export it again: %s", error)
    return content


def _forget_oldest(cache: Path) -> None:
    """Keeps a folder of exports small, whatever is trained; one that is needed again is exported again."""
    exports = sorted(cache.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
    for file in exports[: max(0, len(exports) + 1 - _KEPT)]:
        file.unlink(missing_ok=True)


class _Backbone(nn.Module):
    """What is exported of an encoder: its features."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.features(images)


def _export(encoder: Encoder) -> bytes:
    size = encoder.preprocessing.size
    on_cpu = encoder if encoder.device.type == "cpu" else copy.deepcopy(encoder).cpu()
    sized = Encoder(on_cpu.config, on_cpu.backbone.at_size(size), on_cpu.head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about the exporter's internals
        program = torch.onnx.export(
            _Backbone(sized).eval(),
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
