"""What ``test_distributed`` computes in one process and in two: ``python -m tests.training.fit.ranks``."""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.data.pairs import load_data
from training.fit import run_log
from training.fit.distributed import (
    broadcast,
    first_alone,
    gather_rows,
    is_first,
    joined,
    own_rows,
    sum_gradients,
)
from training.fit.image_batches import ImageBatches
from training.fit.losses import NestedLoRALoss, Nesting
from training.fit.optimisation import Optimization, ParameterGroup, minimise
from training.model.backbones import Backbone
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing
from training.model.tensors import save_tensors

ROWS, DIM = 13, 5  # which two processes cannot share evenly


class _Backbone(Backbone):
    def __init__(self):
        nn.Module.__init__(self)
        self.widths = (4,)


def networks():
    torch.manual_seed(0)
    nets = nn.ModuleList([nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, DIM)) for _ in range(2)])
    return nets.double()


def shared_loss(nets, objective, step, *, labelled=True):
    """The loss of a batch of ``ROWS`` pairs, of which each process embeds its own."""
    generator = torch.Generator().manual_seed(step)
    x, y = (torch.randn(ROWS, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(4, (ROWS,), generator=generator)
    rows = own_rows(ROWS)
    f, g = gather_rows(nets[0](x[rows])), gather_rows(nets[1](y[rows]))
    return objective(f, g, gather_rows(labels[rows]) if labelled else None)


def gradients():
    """Gradients by name for every way of nesting, with labels and without; the loss is beside them."""
    found = {}
    for nesting in Nesting:
        for labelled in (True, False):
            nets = networks()
            value = shared_loss(nets, NestedLoRALoss(DIM, nesting), 0, labelled=labelled)
            torch.autograd.backward(value)
            sum_gradients(list(nets.parameters()))
            found |= {f"{nesting}-{labelled}-{name}": p.grad for name, p in nets.named_parameters()}
            found[f"{nesting}-{labelled}-loss"] = value.detach()
    return found


def trained(checkpoint, optimizer):
    """Parameters after ten clipped steps; those that only one process has at the beginning do not count."""
    nets = networks()
    if not is_first():
        nn.init.zeros_(nets[0][0].weight)
    minimise(
        nets,
        [ParameterGroup(list(nets.parameters()), 0.05)],
        lambda step: shared_loss(nets, NestedLoRALoss(DIM), step),
        Optimization(epochs=2, steps=5, optimizer=optimizer, clip=0.1, average=0.9),
        checkpoint=checkpoint,
        fingerprint="x",
    )
    return {f"{optimizer}-{name}": value for name, value in nets.state_dict().items()}


def images(data):
    """This process's rows of a batch of images, and those of all processes."""
    config = EncoderConfig(preprocessing=Preprocessing(size=32), head=HeadConfig(features=4, dim=2))
    encoders = build_encoders(PairedEncodersConfig(backbone="none", sketch=config, photo=config), _Backbone())
    batches = ImageBatches(load_data(data), encoders, batch_size=7, seed=3, device=torch.device("cpu"))
    own = batches(2)
    batches.close()
    return {"own": own.x} | {f"images-{name}": gather_rows(getattr(own, name)) for name in ("x", "y", "labels")}


def everything(data, out):
    tensors = gradients() | images(data)
    for optimizer in ("sgd", "adamw"):
        tensors |= trained(out / f"{optimizer}.safetensors", optimizer)
    return {name: value.contiguous() for name, value in tensors.items()}


def dying(write):
    """Lets one of the processes die after the second epoch of the last training."""

    def write_and_die(self, stage, history):
        write(self, stage, history)
        if (stage, len(history)) == ("final", 2) and os.environ["DIES"] == os.environ["RANK"]:
            os.kill(os.getpid(), signal.SIGKILL)

    return write_and_die


def main(data, out, *fit):
    if "DIES" in os.environ:
        run_log.RunLog.write = dying(run_log.RunLog.write)
    else:
        with joined("cpu"):
            with first_alone():
                assert is_first() or (out / "first").exists()
                (out / f"{'first' if is_first() else 'second'}").touch()
            assert broadcast(os.environ["RANK"]) == "0"
            print(f"only the first prints, not {os.environ['RANK']}")  # noqa: T201
            save_tensors(out / f"rank{os.environ['RANK']}.safetensors", everything(Path(data), out), {})
        os.environ["MASTER_PORT"] = os.environ["NEXT_PORT"]
    return run_command(TRAINING, ["fit", *fit])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
