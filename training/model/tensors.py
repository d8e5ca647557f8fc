"""The state of a module as tensors in a safetensors file: no pickle, and shared tensors are stored once."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

__all__ = ["load_tensors", "module_tensors", "restore_module", "save_tensors"]


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers by name; one that two submodules share is listed under its first name only."""
    unique = {id(tensor): name for name, tensor in reversed(module.state_dict(keep_vars=True).items())}
    names = set(unique.values())
    return {name: tensor for name, tensor in module.state_dict().items() if name in names}


def restore_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors from ``module_tensors`` back into a module.

    Raises:
        ValueError: if the names or shapes differ from those of the module.
    """
    expected = module_tensors(module)
    if differing := sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"{len(differing)} tensors missing or unknown, {differing[0]} among them")
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}")
    module.load_state_dict(dict(tensors), strict=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file. The write is not atomic; see ``artifacts.atomic_write``.

    Raises:
        OSError: if the disk is full, in place of the error that safetensors raises.
    """
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
