"""What backbones cost: width of their features, parameters, time of an image, and time and memory of a training step.

    python bench/backbones.py --names tf_efficientnet_lite0 convnext_tiny vit_small_patch14_dinov2 --size 224

Weights are random, because none of these figures depends on them; quality does, and `svdraw evaluate` measures it.
Times are processor time on one thread, of an image in a batch of eight, with PyTorch and with ONNX Runtime, and of an
image in a step that trains the later stages on 32 images of the training size. Memory is the growth of a process of its
own over the first such step.
"""

from argparse import Namespace

from measurements.command import Parser, positive, run

NAMES = [
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "vgg11",
    "resnet18",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch32_clip_224",
    "vit_base_patch32_siglip_256",
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
