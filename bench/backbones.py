"""What backbones cost: width of their features, weights, time of an image, and memory of a training step.

    python bench/backbones.py --names tf_efficientnet_lite0 convnext_tiny vit_small_patch14_dinov2 --size 224

Weights are random, because none of these figures depends on them; quality does, and `svdraw evaluate` measures it.
Time is processor time on one thread with PyTorch and with ONNX Runtime, per image in a batch of eight. Memory is the
growth of the process over one training step of the later stages, 32 images of the training size, in a process of its
own.
"""

from argparse import Namespace

from measurements.command import Parser, positive, run

NAMES = [
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small",
    "resnet50",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_base_patch16_clip_224",
]


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--names", nargs="+", default=NAMES, help="names of timm models")
    found.add_argument("--size", type=positive, default=224, help="side of the images, in pixels")
    found.add_argument("--training-size", type=positive, default=160, help="side of the images of a training step")
    return found


def measure(options: Namespace) -> None:
    from measurements.backbones import compare_backbones

    compare_backbones(options)


if __name__ == "__main__":
    run(parser(), measure)
