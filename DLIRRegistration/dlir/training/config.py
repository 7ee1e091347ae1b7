"""The validated record of a training run: what is trained, on what, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlir.errors import ConfigError, ModelError
from dlir.model.spec import ModelSpec

Size = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Strict):
    """Files of one kind. All volumes of one subject pair with each other, fixed and moving in either role.

    files: patterns relative to the data folder. A 4D file is one subject and its phases are the volumes;
        otherwise the files of one folder are a subject.
    validation: patterns of the subjects kept for validation: names of their files (4D) or of any folder above.
    weight: how often this source is drawn, relative to the others.
    largest_motion: probability that a pair is the subject's pair of largest difference, else any two volumes.
    """

    files: list[str] = Field(min_length=1)
    validation: list[str] = []
    weight: float = Field(1.0, gt=0)
    largest_motion: float = Field(0.0, ge=0, le=1)


class Augmentation(_Strict):
    """Random changes of a pair, the same for both images (§6.1). Sizes in voxels of the working grid, (x, y, z).

    crop: size of the training volumes; smaller images are zero-padded, and the padding never counts.
    shift: largest in-plane displacement of the crop from the image centre.
    rotate90: by a multiple of 90 degrees in plane, so the voxels and the crop must be square there.
    """

    crop: tuple[Size, Size, Size]
    shift: int = Field(16, ge=0)
    rotate90: bool = True
    flip: bool = True


class StageTraining(_Strict):
    """One stage's share of the run; alpha weighs the bending energy (§2.4)."""

    iterations: int = Field(gt=0)
    batch_size: int = Field(8, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    alpha: float = Field(0.05, ge=0)


class FineTuning(StageTraining):
    """All stages together after the last one, the similarity taken from the final stage (§9)."""


class ModelCard(_Strict):
    """What a user must know before trusting a model. Free text, shown by `dlir models`."""

    name: str
    title: str
    anatomy: str
    modality: str
    data: str
    licence: str
    citation: str


class TrainingConfig(_Strict):
    """Everything that `dlir train` needs besides the data folder."""

    card: ModelCard
    model: dict[str, Any]
    sources: list[Source] = Field(min_length=1)
    augmentation: Augmentation
    training: list[StageTraining]
    fine_tuning: FineTuning | None = None
    seed: int = Field(0, ge=0)
    validation_every: int = Field(200, gt=0)
    precision: str = Field("float32", pattern="^(float32|bfloat16)$")

    @property
    def spec(self) -> ModelSpec:
        """The model's specification. Raises ModelError where it contradicts itself."""
        return ModelSpec.from_dict(self.model)


class _ModelTypes(BaseModel):
    """Checks the types that `ModelSpec.from_dict` takes on trust."""

    model: ModelSpec


def load_config(path: Path) -> TrainingConfig:
    """Read a YAML configuration. Raises ConfigError naming the file, the key and what is wrong with it."""
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}; check the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration '{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_config(values, str(path))


def parse_config(values: Any, name: str) -> TrainingConfig:
    """Validate plain values. `name` says in errors where they come from."""
    try:
        config = TrainingConfig.model_validate(values)
        _ModelTypes.model_validate({"model": config.model})
        stages = len(config.spec.stages)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"configuration '{name}': {key}: {first['msg']}; correct this entry") from None
    except ModelError as error:
        raise ConfigError(f"configuration '{name}': model: {error}; correct this entry") from None
    if len(config.training) != stages:
        raise ConfigError(
            f"configuration '{name}': training: {len(config.training)} entries for {stages} stages; give one for each"
        )
    x, y, _ = config.augmentation.crop
    if config.augmentation.rotate90 and x != y:
        raise ConfigError(
            f"configuration '{name}': augmentation.crop: {x} x {y} is not square, which rotate90 needs; correct either"
        )
    return config
