"""The command line of the training package; every option is also an environment variable."""

from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, CliApp, CliSubCommand

from training.base.artifacts import write_text
from training.base.cache import default_cache_directory
from training.base.command_line import command_config
from training.data.demo_data import render_demo_data
from training.data.photo_pairs import draw_pairs
from training.evaluation.plots import plot_evaluation
from training.evaluation.protocol import EvaluationReport, evaluate
from training.fit.recipe import Recipe
from training.fit.run import fit
from training.model.bundle import load_bundle, read_manifest
from training.model.devices import resolve_device
from training.model.starter import STARTER_MODEL
from training.operators.commands import Operators

__all__ = ["DemoData", "Evaluate", "Fit", "Training"]

ADAPTATION_RIDGE = 8.0  # on held-out classes: less finds fewer of the same kind, more finds the very photo less often
_DATA = "folder with sketch/<class>/* and photo/<class>/*, or a pairs table (.csv, .parquet)"
_SPLIT = "sketchy-1, sketchy-2, or a file of seen and unseen classes"


class Fit(Recipe):
    """Train paired encoders by NeuralSVD and write a model bundle."""

    data: Path | None = Field(None, description=_DATA)
    photos: Path | None = Field(
        None,
        description="folder of photos to adapt a model to, in place of --data: line drawings of them are the sketches",
    )
    out: Path = Field(description="folder of the run, which becomes the model bundle")
    split: str | None = Field(None, description=f"{_SPLIT}; unseen classes are never opened")
    cache: Path = Field(default_factory=default_cache_directory, description="folder of cached features")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")

    @model_validator(mode="after")
    def _one_source(self) -> "Fit":
        if (self.data is None) == (self.photos is None):
            raise ValueError("give either --data or --photos")
        return self

    def cli_cmd(self) -> None:
        """Runs the command."""
        choices = self.model_dump(include=set(Recipe.model_fields))
        if self.photos is not None:
            choices |= self._adaptation()
            data = draw_pairs(self.photos, self.out / "pairs")
        else:
            data = cast(Path, self.data)
        recipe = Recipe(**choices)
        manifest = fit(data, self.out, recipe, split=self.split, cache=self.cache, device=resolve_device(self.device))
        top = ", ".join(f"{value:.3f}" for value in manifest.spectrum[:5])
        print(f"model {manifest.digest[:12]} in {self.out}: {len(manifest.spectrum)} dimensions, spectrum {top}, ...")

    def _adaptation(self) -> dict[str, object]:
        """What photos alone change: the shipped model's encoders, kept, get a closed form of the line drawings."""
        start = self.start or STARTER_MODEL
        encoders = read_manifest(start).encoders
        defaults: dict[str, object] = {
            "start": start,
            "backbone": encoders.backbone,
            "multi_scale": encoders.multi_scale,
            "share_backbone": encoders.share_backbone,
            "image_size": encoders.sketch.preprocessing.size,
            "flip": encoders.sketch.flip,
            "crop_to_ink": encoders.sketch.preprocessing.crop_to_ink,
            "grayscale": encoders.photo.preprocessing.grayscale,
            "tune": "none",
            "sketch_mean": "start",
            "ridge": ADAPTATION_RIDGE,
            "line_drawings": 0.0,  # there is nothing else
        }
        tune = self.tune if "tune" in self.model_fields_set else "none"
        if tune == "all":
            defaults["sketch_mean"] = "data"
        if tune == "none" and self.share_head and encoders.has_one_linear_head:
            defaults["start_heads"] = 0.5
        return {name: value for name, value in defaults.items() if name not in self.model_fields_set}


class Evaluate(BaseModel):
    """Measure a model bundle by the zero-shot protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path = Field(description="model bundle")
    data: Path = Field(description=_DATA)
    split: str | None = Field(None, description=f"{_SPLIT}; by default the classes that the model's own split held out")
    gallery: Literal["unseen", "all"] = Field("unseen", description="photos of the unseen classes, or all photos")
    json_file: Path | None = Field(None, alias="json", description="write every figure there")
    plot: Path | None = Field(None, description="draw the truncation curve and the spectrum into this PNG")
    cache: Path = Field(default_factory=default_cache_directory, description="folder of cached features")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")

    def cli_cmd(self) -> None:
        """Runs the command."""
        device = resolve_device(self.device)
        bundle = load_bundle(self.model, self.device)
        report = evaluate(bundle, self.data, split=self.split, gallery=self.gallery, cache=self.cache, device=device)
        if self.json_file:
            write_text(self.json_file, report.model_dump_json(indent=2) + "\n")
        if self.plot:
            plot_evaluation(self.plot, report.curve, report.gallery_curve, report.spectrum)
        print(_summary(report))


class DemoData(BaseModel):
    """Render line drawings and colour pictures of the same things from two emoji fonts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(description="folder to write")
    limit: int | None = Field(None, ge=10, description="render only so many things")

    def cli_cmd(self) -> None:
        """Runs the command."""
        summary = render_demo_data(self.out, limit=self.limit)
        print(f"{summary.classes} things, {summary.sketches} drawings, {summary.unseen} unseen, in {self.out}")


class Training(BaseSettings):
    """Train and evaluate paired sketch and photo encoders, or solve operators by the same objective."""

    model_config = command_config("python -m training")

    fit: CliSubCommand[Fit]
    evaluate: CliSubCommand[Evaluate]
    demo_data: CliSubCommand[DemoData] = Field(alias="demo-data")
    operators: CliSubCommand[Operators]

    def cli_cmd(self) -> None:
        """Runs the chosen command."""
        CliApp.run_subcommand(self)


def _summary(report: EvaluationReport) -> str:
    rows = [
        ("queries, gallery", f"{report.queries}, {report.gallery}"),
        ("mAP@all", f"{report.map_all:.4f}"),
        ("mAP@200", f"{report.map_200:.4f}"),
        ("mAP, interpolated", f"{report.map_interpolated:.4f}"),
        *((f"P@{k}", f"{value:.4f}") for k, value in report.precision.items() if k in (25, 100)),
        *((f"acc@{k}", f"{value:.4f}") for k, value in report.accuracy.items() if k in (1, 10)),
        *(
            (f"acc@{k}, the very photo", f"{value:.4f}")
            for k, value in report.instance_accuracy.items()
            if k in (1, 10)
        ),
        *((f"mAP@all, {p.dimensions} dimensions", f"{p.most:.4f}") for p in report.gallery_curve[-5:]),
    ]
    if report.trained_classes:
        rows.append(("NOT zero-shot", f"{report.trained_classes} of {report.classes} classes were trained on"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
