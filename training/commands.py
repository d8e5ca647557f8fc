"""The commands of the training package: ``svdraw fit``, ``evaluate``, ``calibrate``, ``quantize`` and others."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, cast

from cyclopts import Parameter
from pydantic import Field, model_validator

from training.base.artifacts import write_text
from training.base.cache import default_cache_directory
from training.base.command_line import Options, Settings
from training.base.errors import DataError
from training.data.demo_data import render_demo_data
from training.data.pairs import load_data
from training.data.photo_pairs import draw_pairs
from training.data.splits import hold_out
from training.evaluation.calibration import FEWEST_CLASSES, fit_calibration
from training.evaluation.embeddings import read_searches
from training.evaluation.plots import plot_evaluation
from training.evaluation.precision import measured_classes, quantise_bundle
from training.evaluation.protocol import EvaluationReport, query_classes
from training.evaluation.protocol import evaluate as measure
from training.evaluation.report import retrieval_report
from training.evaluation.summary import summary
from training.features.paired import paired_features
from training.fit.distributed import first_alone, joined
from training.fit.recipe import Recipe, RecipeOptions, read_recipe
from training.fit.run import fit as train
from training.model.bundle import bundle_with_views, load_bundle, set_calibration
from training.model.devices import resolve_device
from training.model.encoders import Views
from training.model.hub import HubName
from training.model.manifest import BundleManifest, read_manifest
from training.model.publication import push_bundle
from training.model.quantisation import Quantisation
from training.model.starter import STARTER_MODEL

__all__ = [
    "Calibrate",
    "DemoData",
    "Evaluate",
    "Fit",
    "Push",
    "Quantize",
    "calibrate",
    "demo_data",
    "evaluate",
    "fit",
    "push",
    "quantize",
]

ADAPTATION_RIDGE = 8.0  # on held-out classes: less finds fewer of the same class, more finds fewer exact matches
_DATA = (
    "folder with sketch/<class>/* and photo/<class>/*, a published data set or its file lists, or a pairs table (.csv, "
    ".parquet)"
)
_SPLIT = (
    "sketchy-1, sketchy-2, quickdraw, or a file: JSON with the seen and the unseen classes, text that lists the "
    "unseen classes, one per line, or a published list of their files"
)
_DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
_CACHE = "folder of cached features"


class _Sources(Settings):
    data: Path | None = Field(None, description=f"training pairs: {_DATA}")
    photos: Path | None = Field(
        None,
        description="folder of photos to adapt a model to, in place of --data; line drawings computed from the photos "
        "are the sketches",
    )
    out: Path = Field(description="folder of the run, which becomes the model bundle")
    split: str | None = Field(None, description=f"class split: {_SPLIT}; images of unseen classes are never opened")
    recipe: Path | None = Field(
        None, description="JSON file with further choices, listed in docs/recipe.md; options win over it"
    )


class Fit(RecipeOptions, _Sources):  # the order of --help is that of the bases from the last to the first
    """Options of ``svdraw fit``: where the files are, and the choices that are changed most often."""

    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)

    @model_validator(mode="after")
    def _one_source(self) -> "Fit":
        if (self.data is None) == (self.photos is None):
            raise ValueError("give either --data or --photos")
        return self


def fit(*, settings: Options[Fit]) -> None:
    """Trains paired encoders by NeuralSVD and writes a model bundle."""
    chosen = read_recipe(settings.recipe) if settings.recipe else {}
    chosen |= settings.model_dump(include=set(RecipeOptions.model_fields), exclude_unset=True)
    if settings.photos is not None:
        chosen = _adaptation(chosen) | chosen
    recipe = Recipe(**chosen)
    with joined(settings.device) as device:
        with first_alone():
            data = draw_pairs(settings.photos, settings.out / "pairs") if settings.photos else cast(Path, settings.data)
        manifest = train(data, settings.out, recipe, split=settings.split, cache=settings.cache, device=device)
        _print_model(manifest, settings.out)


def _print_model(manifest: BundleManifest, out: Path) -> None:
    top = ", ".join(f"{value:.3f}" for value in manifest.spectrum[:5])
    print(f"model {manifest.digest[:12]} in {out}: {len(manifest.spectrum)} dimensions, spectrum {top}, ...")
    if manifest.int8:
        print(_precisions(manifest.int8))


def _adaptation(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for photos alone: the encoders of a model are kept and get a closed form of the line drawings."""
    start = Path(chosen.get("start") or STARTER_MODEL)
    encoders = read_manifest(start).encoders
    tune = chosen.get("tune", "none")
    defaults: dict[str, Any] = {
        "start": start,
        "backbone": encoders.backbone,
        "multi_scale": encoders.multi_scale,
        "pooling": encoders.pooling,
        "share_backbone": encoders.share_backbone,
        "image_size": encoders.sketch.preprocessing.size,
        "flip": encoders.sketch.flip,
        "crop_to_ink": encoders.sketch.preprocessing.crop_to_ink,
        "grayscale": encoders.photo.preprocessing.grayscale,
        "tune": tune,
        "sketch_mean": "data" if tune == "all" else "start",
        "ridge": ADAPTATION_RIDGE,
        "line_drawings": 0.0,  # there is nothing else
    }
    if tune == "none" and chosen.get("share_head", True) and encoders.has_one_linear_head:
        defaults["start_heads"] = 0.5
    return defaults


class Evaluate(Settings):
    """Options of ``svdraw evaluate``."""

    model: Path | None = Field(None, description="model bundle to measure")
    data: Path | None = Field(None, description=f"test pairs: {_DATA}")
    embeddings: Path | None = Field(
        None,
        description="file of embeddings made elsewhere (.npz, .safetensors) to measure in place of --model and --data: "
        "sketches, photos, sketch_labels, photo_labels, and instances if they are known",
    )
    split: str | None = Field(
        None, description=f"class split: {_SPLIT}; by default the classes that the model's own split held out"
    )
    views: Views | None = Field(
        None,
        description="views of each photo whose features are averaged, 1, 2 or 4, see `svdraw index build`; by default "
        "those of the model",
    )
    gallery: Literal["unseen", "all"] = Field(
        "unseen", description="photos to search: those of the unseen classes, or all"
    )
    json_file: Annotated[Path | None, Parameter(name="--json")] = Field(
        None, description="JSON file to write every figure to"
    )
    plot: Path | None = Field(None, description="PNG file to draw the truncation curve and the spectrum into")
    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)

    @model_validator(mode="after")
    def _one_source(self) -> "Evaluate":
        if (self.embeddings is None) != (self.model is not None and self.data is not None):
            raise ValueError("give --model and --data, or --embeddings in place of both")
        if self.embeddings and (self.model or self.data or self.split or self.views or self.gallery != "unseen"):
            raise ValueError(
                "--embeddings takes no --model, --data, --split, --views or --gallery, for the file says it all"
            )
        return self


def evaluate(*, settings: Options[Evaluate | None] = None) -> None:
    """Measures a model bundle, or embeddings made elsewhere, by the zero-shot protocol."""
    settings = settings or Evaluate()  # which says what is missing where no option was given
    report = retrieval_report(read_searches(settings.embeddings)) if settings.embeddings else _measured(settings)
    if settings.json_file:
        write_text(settings.json_file, report.model_dump_json(indent=2) + "\n")
    if settings.plot:
        spectrum = report.spectrum if isinstance(report, EvaluationReport) else None
        plot_evaluation(settings.plot, report.curve, report.gallery_curve, spectrum)
    print(summary(report))


def _measured(settings: Evaluate) -> EvaluationReport:
    data, device = cast(Path, settings.data), resolve_device(settings.device)
    with bundle_with_views(cast(Path, settings.model), settings.views) as model:
        bundle = load_bundle(model, settings.device)
    return measure(bundle, data, split=settings.split, gallery=settings.gallery, cache=settings.cache, device=device)


class Calibrate(Settings):
    """Options of ``svdraw calibrate``."""

    model: Path = Field(description="model bundle to calibrate, such as the folder model/ of a gallery")
    data: Path = Field(description=f"pairs of classes that the model was not trained on, and others: {_DATA}")
    split: str | None = Field(
        None, description=f"class split: {_SPLIT}; by default the classes that the model's own split held out"
    )
    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)
    device: str = Field("auto", description=_DEVICE)


def calibrate(*, settings: Options[Calibrate]) -> None:
    """Fits relevance on classes that a model bundle was not trained on, and writes it into the bundle."""
    device = resolve_device(settings.device)
    bundle = load_bundle(settings.model, settings.device)
    data = load_data(settings.data, bundle.manifest.training.settings.get("pairing", "auto"))
    classes = set(query_classes(bundle, data, settings.split)) - set(bundle.manifest.training.classes)
    features = paired_features(data, bundle.encoders, settings.cache, device)
    calibration = fit_calibration(features, bundle.encoders, bundle.spectrum, classes)
    if calibration is None:
        raise DataError(
            f"{settings.data} has too little to calibrate on: {len(classes)} classes with usable sketches that the "
            f"model was not trained on; {FEWEST_CLASSES} are needed, some of whose photos are found"
        )
    set_calibration(settings.model, calibration)
    print(f"{settings.model}: relevance fitted on {calibration.queries} sketches of {calibration.classes} classes")


class Quantize(Settings):
    """Options of ``svdraw quantize``."""

    model: Path = Field(description="folder of the model bundle to quantise")
    data: Path | None = Field(
        None, description=f"pairs, some of classes that the model was not trained on, to measure with: {_DATA}"
    )
    photos: Path | None = Field(
        None,
        description="folder of photos to measure with, in place of --data; line drawings computed from the photos are "
        "the sketches",
    )
    split: str | None = Field(
        None, description=f"class split: {_SPLIT}; by default the classes that the model's own split held out"
    )
    cache: Path = Field(default_factory=default_cache_directory, description=_CACHE)

    @model_validator(mode="after")
    def _one_source(self) -> "Quantize":
        if (self.data is None) == (self.photos is None):
            raise ValueError("give either --data or --photos")
        return self


def quantize(*, settings: Options[Quantize]) -> None:
    """Finds how a model runs in eight bits on CPUs, measures what that keeps, and writes both into the bundle."""
    bundle = load_bundle(settings.model, "cpu")
    with TemporaryDirectory() as drawings:
        if settings.photos is None:
            data = load_data(cast(Path, settings.data), bundle.manifest.training.settings.get("pairing", "auto"))
            measured = measured_classes(bundle, data, settings.split)
        else:
            data = load_data(draw_pairs(settings.photos, Path(drawings)))
            measured = hold_out(data.classes, 0.5, seed=0).unseen
        print(_precisions(quantise_bundle(settings.model, bundle, data, measured, settings.cache)))


def _precisions(found: Quantisation) -> str:
    rows = [
        ("", "fp32", "int8", "", "photos alone in int8"),
        *(
            (name, f"{each.fp32:.4f}", f"{each.int8:.4f}", f"{-each.loss:+.2%}", f"{each.mixed:.4f}")
            for name, each in found.figures.items()
        ),
        *((f"cosine, {name}", "1", f"{value:.4f}", "", "") for name, value in found.cosines.items()),
    ]
    table = "\n".join("{:<20} {:>8} {:>8} {:>8}  {}".format(*row).rstrip() for row in rows)
    rule = (
        "a CPU takes eight bits by itself where they are quicker"
        if found.keeps_quality
        else "a figure loses more than 0.5%, so eight bits are used only with --precision int8"
    )
    return f"{table}\n{found.queries} sketches, {found.instance_queries} with a known photo; {rule}"


class Push(Settings):
    """Options of ``svdraw push``."""

    model: Path = Field(description="folder of the model bundle to publish")
    to: str = Field(description="where to: hf://organisation/name, or hf://organisation/name@branch")
    private: bool = Field(False, description="if the repository is created, let only its owners see it")


def push(*, settings: Options[Push]) -> None:
    """Publishes a model bundle on a hub, with a card that says where it comes from."""
    name = HubName.parse(settings.to)
    commit = push_bundle(settings.model, name, private=settings.private)
    print(f"published; name this version as hf://{name.repository}@{commit}")


class DemoData(Settings):
    """Options of ``svdraw demo-data``."""

    out: Path = Field(description="folder to write")
    limit: int | None = Field(None, ge=10, description="largest number of classes to render; all when left out")


def demo_data(*, settings: Options[DemoData]) -> None:
    """Renders line drawings and colour pictures of the same things from two emoji fonts."""
    summary = render_demo_data(settings.out, limit=settings.limit)
    print(f"{summary.classes} classes, {summary.sketches} drawings, {summary.unseen} unseen classes, in {settings.out}")
