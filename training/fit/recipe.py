"""All settings of a training run except the paths of its files."""

import difflib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.base.errors import TrainingError
from training.data.pairing import Pairing
from training.fit.losses import Nesting
from training.model.backbones import DEFAULT_BACKBONE, Pooling
from training.model.heads import Norm

__all__ = ["Recipe", "RecipeOptions", "read_recipe"]

_WORTH_QUANTISING = 1000  # images; fewer say little about half a percent, and are trained on in no time


class RecipeOptions(BaseModel):
    """The choices that are changed most often; ``svdraw fit`` has an option for each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Path | None = Field(None, description="model bundle whose backbones training starts from")
    backbone: str = Field(
        DEFAULT_BACKBONE,
        description="timm model that both encoders are built on: its name, local-dir:PATH or hf-hub:ORGANISATION/NAME",
    )
    weights: Path | None = Field(None, description="safetensors file of the backbone's weights, in place of its own")
    tune: Literal["none", "heads", "all"] = Field(
        "all", description="what NeuralSVD trains: nothing beyond the closed form, the heads, or the backbones too"
    )
    dim: int = Field(
        512, ge=1, le=8192, description="number of embedding coordinates; fewer if the data has fewer pairs"
    )
    epochs: int = Field(4, ge=1, description="passes over the photos")
    batch_size: int = Field(32, ge=2, description="pairs in a batch")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the heads")
    image_size: int = Field(224, ge=32, le=1024, description="side of the encoders' input, in pixels")
    quantize: bool | None = Field(
        None,
        description="find how the model runs in eight bits on CPUs, and measure on held-out classes what that keeps; "
        "null: if backbones are trained, on 1,000 images or more",
    )
    seed: int = Field(0, ge=0, description="seed of initialisation, batches and held-out classes")


class Recipe(RecipeOptions):
    """How a model is built and trained; the defaults are what measured best."""

    start_heads: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="weight of the heads of the model in `start` in the closed form; needs `tune` none",
    )
    share_backbone: bool = Field(True, description="use one backbone for sketches and photos")
    multi_scale: bool = Field(True, description="append pooled features of the backbone's last five stages")
    pooling: Pooling = Field(
        "mean", description="what these features are: the mean of each channel, or its mean and its largest value"
    )
    training_size: int | None = Field(
        160,
        ge=32,
        le=1024,
        description="side of the input while backbones are trained, in pixels; null: that of the encoders",
    )
    flip: bool = Field(False, description="average the features of each image and its mirror image")
    crop_to_ink: bool = Field(
        False, description="crop sketches to what is drawn, pad them to a square and darken light lines"
    )
    grayscale: bool = Field(False, description="drop the colour of photos")
    standardise: Literal["blocks", "features"] = Field(
        "blocks",
        description="what has variance one before the heads: the features of each stage on average, or each feature",
    )
    hidden: int = Field(0, ge=0, description="width of the heads' hidden layer; 0: linear heads")
    share_head: bool = Field(True, description="use one head for sketches and photos")
    sketch_mean: Literal["data", "start"] = Field(
        "data",
        description="centre sketch embeddings at the mean of the training sketches, or as the model in `start` does",
    )
    sketch_norm: Norm = Field("none", description="norm constraint of sketch embeddings")
    photo_norm: Norm = Field("sphere", description="norm constraint of photo embeddings")
    mu: float = Field(
        16.0, gt=0, description="squared radius of the norm ball, and of the sphere with random initialisation"
    )
    init: Literal["closed-form", "random"] = Field("closed-form", description="initialisation of the heads")
    ridge: float | None = Field(
        None,
        gt=0,
        description="ridge regularisation of the closed form, relative to the mean eigenvalue; null: chosen on "
        "held-out classes",
    )
    frozen_stages: int = Field(2, ge=0, description="number of first backbone stages that `tune` all does not train")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate from each stage of a backbone to the one before it",
    )
    teacher: Literal["both", "contrastive", "nested"] = Field(
        "nested",
        description="what `tune` all trains backbones by: NestedLoRA, or a supervised contrastive loss, after which "
        "the closed form makes the embeddings, or the sum of both",
    )
    temperature: float = Field(0.1, gt=0, description="temperature of the contrastive loss")
    depicted: float = Field(
        2.0,
        ge=0,
        description="how much more than the others of its class the photo that a sketch depicts counts in the "
        "contrastive loss",
    )
    class_pairs: int = Field(
        1, ge=1, description="pairs of the same class that a batch draws together while `tune` all trains backbones"
    )
    tuning_instances: float = Field(
        0.0, ge=0, lt=1, description="weight of exact matches while `tune` all trains backbones; see `instances`"
    )
    distillation: float = Field(
        0.0,
        ge=0,
        description="weight of soft targets from the classifier that the backbone was pretrained with, while `tune` "
        "all trains it; where there is none, or with `start`, nothing is distilled",
    )
    nesting: Nesting = Field(Nesting.JOINT, description="how the objective learns all ranks at once")
    nesting_step: int = Field(1, ge=1, description="distance between the ranks of joint nesting")
    canonical: bool = Field(True, description="put the result in canonical form, ordered by singular value")
    instances: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="weight in the closed form of exact matches (a sketch and the photo it was drawn from), where "
        "file names tell",
    )
    pairing: Pairing = Field(
        "auto",
        description="how file names make instance pairs: auto pairs sketch NAME-k with photo NAME if the whole data "
        "set is named so; names pairs NAME-k or NAME with photo NAME wherever such names occur; none makes no pairs",
    )
    line_drawings: float = Field(
        0.3, ge=0, lt=1, description="share of pairs whose sketch is a line drawing computed from the photo"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimiser of heads and backbones")
    backbone_learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the backbones")
    weight_decay: float = Field(0.01, ge=0, description="weight decay")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: no clipping")
    average: float = Field(0.98, ge=0, lt=1, description="decay of the moving average of parameters; 0: no average")
    amp: bool = Field(True, description="bfloat16 autocast on a GPU")
    half: bool = Field(False, description="store backbones and heads in half precision, in half the space")
    validation: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of the seen classes held out to choose on; 0: choose nothing and train once",
    )

    @property
    def is_contrastive(self) -> bool:
        """Whether training descends the contrastive loss, alone or with another."""
        return self.tune == "all" and self.teacher != "nested"

    def quantizes(self, images: int) -> bool:
        """Whether a training on so many images finds how the model runs in eight bits."""
        return self.tune == "all" and images >= _WORTH_QUANTISING if self.quantize is None else self.quantize

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.init == "closed-form" and self.hidden:
            raise ValueError("the closed form needs linear heads: set init to random, or hidden to 0, in the recipe")
        if self.init == "random" and self.tune == "none":
            raise ValueError("random heads need training: choose --tune heads or --tune all")
        if self.init == "random" and self.is_contrastive:
            raise ValueError("the contrastive loss needs a closed form after it: set teacher to nested in the recipe")
        if self.sketch_mean == "start" and (self.start is None or self.tune == "all"):
            raise ValueError("sketch_mean start in the recipe needs a model to --start from, and --tune none or heads")
        if self.weights is not None and self.start is not None:
            raise ValueError("--weights are those of a new backbone; the model to --start from has its own")
        if self.start_heads and (self.start is None or self.tune != "none" or not self.share_head):
            raise ValueError("start_heads in the recipe needs a model to --start from, --tune none and share_head true")
        return self


def read_recipe(file: Path) -> dict[str, Any]:
    """Reads fields of a recipe; fields that are left out keep their defaults.

    Args:
        file: a JSON object.

    Raises:
        TrainingError: if it is not JSON, or has a field that recipes do not have.
        OSError: if it cannot be read.
    """
    try:
        fields = json.loads(file.read_bytes())
    except ValueError as error:  # what bytes that are not text raise, too
        raise TrainingError(f"{file} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise TrainingError(f'{file} is not a JSON object such as {{"tune": "none"}}')
    for field in fields:
        if field not in Recipe.model_fields:
            closest = difflib.get_close_matches(field, Recipe.model_fields, n=1, cutoff=0)
            raise TrainingError(f"{file} has the unknown field {field!r}; did you mean {closest[0]!r}?")
    return fields
