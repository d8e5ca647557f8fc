"""The methods that the retrieval benchmark compares, each as changes to the default recipe of ``svdraw fit``.

A method whose value is None is not trained.
"""

__all__ = ["ABLATIONS", "EVERY", "METHODS"]

FROZEN = {"tune": "none"}
CLASSES_ONLY = {"instances": 0.0, "line_drawings": 0.0}
# The recipe of the NeuralSVD paper, scaled down to 2,500 images per modality: 300 steps of 1,024 pairs and a narrower
# MLP.
PAPER = CLASSES_ONLY | {
    "tune": "heads",
    "validation": 0.0,  # this recipe leaves nothing to choose by held-out classes
    "multi_scale": False,
    "init": "random",
    "hidden": 2048,
    "share_head": False,
    "sketch_norm": "ball",
    "photo_norm": "ball",
    "mu": 16.0,
    "optimizer": "sgd",
    "learning_rate": 5e-3,
    "weight_decay": 0.0,
    "clip": 1.0,
    "average": 0.0,
    "batch_size": 1024,
    "epochs": 100,
    "dim": 256,
}
METHODS: dict[str, dict[str, object] | None] = {
    "raw cosine": None,
    "un-nested LoRA": PAPER | {"nesting": "none", "canonical": False},
    "paper's recipe": PAPER | {"canonical": False},
    "paper's recipe, multi-scale features": PAPER | {"canonical": False, "multi_scale": True},
    "closed form": FROZEN | CLASSES_ONLY | {"multi_scale": False, "share_head": False, "photo_norm": "none"},
    "ours, frozen backbone": FROZEN,
    "ours": {},
}
ABLATIONS: dict[str, dict[str, object] | None] = {
    "paper's recipe, each feature standardised": PAPER | {"canonical": False, "standardise": "features"},
    "ours, classes alone": CLASSES_ONLY,
    "ours, no line drawings": {"line_drawings": 0.0},
    "ours, EfficientNet-Lite2": {"backbone": "tf_efficientnet_lite2"},
    "ours, no instance pairs": {"instances": 0.0},
    "ours, 160 px throughout": {"image_size": 160},
    "ours, every stage trained": {"frozen_stages": 0},
    "ours, separate backbones": {"share_backbone": False},
    "ours, soft targets": {"distillation": 0.2},
    "ours, taught by contrast": {"teacher": "contrastive"},
    "ours, taught by contrast, soft targets": {"teacher": "contrastive", "distillation": 0.2},
    "ours, un-nested": {"nesting": "none"},
}
EVERY = METHODS | ABLATIONS
