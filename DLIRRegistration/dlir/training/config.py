"""The validated record of a training run: what is trained, on what, and how."""

from __future__ import annotations

from pathlib import PurePath
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dlir.data.layouts.decathlon import person_of
from dlir.io.source import stem
from dlir.losses.choices import WINDOW, Similarity
from dlir.model.spec import ModelSpec

Size = Annotated[int, Field(gt=0)]
Length = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# Numbers of voxels along x, y and z.
Voxels = tuple[Size, Size, Size]
# Images anywhere below a folder, in the formats that are read.
ANY_IMAGE = ("**/*.nii", "**/*.nii.gz", "**/*.nrrd", "**/*.mha", "**/*.mhd", "**/*.dcm")


class Strict(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Initial(Strict):
    """The model that is continued. Its stages, preprocessing and weights are what the run begins with; what else the
    configuration leaves out is taken from its file: `training` without iterations of single stages but those added, and
    `fine_tuning` by smaller steps than the model was trained with.

    model: its name, see `dlir models`, or its file, relative to the configuration's folder.
    freeze: stages, counted from 1, that stay as they are: neither trained nor counted in the bending energy.
    add_stages: so many stages more, each a copy of the last one to begin with.
    sha256: of its weights, which a run notes; another model is refused then.
    """

    model: str
    freeze: list[Size] = []
    add_stages: int = Field(0, ge=0)
    sha256: str | None = None


class Source(Strict):
    """Images of one kind, and how they make pairs.

    files: patterns relative to the data folder, of files or of folders that hold one DICOM series each; a file *.dcm
        stands for its folder. An image's ending matches capitals, too. By default any image anywhere below it. Not used
        where the data are given as a table (manifest).
    pairs: "intra" pairs any two volumes of one subject, on one grid; "inter" volumes of any two subjects, whatever
        their grids. A manifest that lists pairs is taken as it is, whatever stands here; "listed", which older
        configurations say of one, only refuses other data.
    subject: what a subject is: "folder", all files of a folder, "file", or "decathlon", a file but for the two sides
        of one person among the Decathlon's hippocampi. A 4D file is a subject always. By default folders for intra
        pairs and files for inter pairs.
    mask: where an image's mask lies, relative to the data folder, from {folder} and {stem} of the image: voxels outside
        of it do not count in the similarity. An image without such a file counts whole. No mask is taken for an image.
    validation: patterns of the subjects kept for validation: names of their files or of any folder above.
    validation_last: instead, so many of them, the last by name. validation_fraction: instead, such a part of them, by
        chance: one at least, for inter pairs two, as long as so many are left to train with, and else nobody.
    test_last: so many subjects, the last by name, are kept for testing and never opened, and the others divided; a
        manifest's own splits count instead.
    weight: how often this source is drawn, relative to the others.
    largest_motion: probability that an intra pair is the subject's pair of largest difference, else any two volumes.
    """

    files: list[str] = Field(list(ANY_IMAGE), min_length=1)
    pairs: Literal["intra", "inter", "listed"] = "intra"
    subject: Literal["folder", "file", "decathlon"] | None = None
    mask: str | None = None
    validation: list[str] = []
    validation_last: int = Field(0, ge=0)
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    test_last: int = Field(0, ge=0)
    weight: float = Field(1.0, gt=0)
    largest_motion: Share = 0.0

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Source:
        if sum(map(bool, (self.validation, self.validation_last, self.validation_fraction))) > 1:
            raise ValueError("give only one of validation, validation_last and validation_fraction")
        if self.largest_motion and self.pairs != "intra":
            raise ValueError("largest_motion is for intra pairs")
        return self

    @field_validator("mask")
    @classmethod
    def _can_be_filled_in(cls, mask: str | None) -> str | None:
        if unknown := [name for _, name, _, _ in Formatter().parse(mask or "") if name not in (None, "folder", "stem")]:
            raise ValueError(f"{{{unknown[0]}}} is neither {{folder}} nor {{stem}}")
        return mask

    def subject_of(self, file: PurePath) -> PurePath:
        """Whose image a file is, where the data do not say."""
        kind = self.subject or ("file" if self.pairs == "inter" else "folder")
        if kind == "folder":
            return file.parent
        own = stem(file)
        return file if kind == "file" or person_of(own) == own else file.with_name(person_of(own))


class RandomAffine(Strict):
    """A random affine map of the moving image about its centre.

    rotation: largest angle about each axis, degrees. translation: largest shift along each axis, mm. scale: smallest
    and largest factor along each axis.
    """

    rotation: float = Field(0.0, ge=0, le=180)
    translation: float = Field(0.0, ge=0)
    scale: tuple[Length, Length] = (1.0, 1.0)

    @model_validator(mode="after")
    def _rising(self) -> RandomAffine:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be two factors that rise")
        return self


class Augmentation(Strict):
    """Random changes of a pair. Sizes in voxels of the working grid, (x, y, z).

    crop: size of the training volumes (§6.1, §8.1): corresponding windows of both images, which must lie on one grid;
        smaller images are zero-padded, and the padding never counts. Without it, images are taken whole.
    shift: largest in-plane displacement of the crop from the image centre; null for anywhere in the image.
    trim: mm by which whole images are cut at most along each axis, both images by chance of their own (§7.1).
    rotate90: both images by the same multiple of 90 degrees in plane; voxels and crop must be square there.
    flip: both images mirrored along x and z.
    affine: what `random_affine` of a stage applies to the moving image.
    """

    crop: Voxels | None = None
    shift: Annotated[int, Field(ge=0)] | None = 16
    trim: float = Field(0.0, ge=0)
    rotate90: bool = True
    flip: bool = True
    affine: RandomAffine | None = None

    @model_validator(mode="after")
    def _fits(self) -> Augmentation:
        if self.crop is not None and self.rotate90 and self.crop[0] != self.crop[1]:
            raise ValueError(f"crop {self.crop[0]} x {self.crop[1]} is not square, which rotate90 needs")
        if self.crop is None and self.rotate90:
            raise ValueError("rotate90 needs a crop")
        if self.crop is not None and self.trim:
            raise ValueError("trim is for whole images, without a crop")
        return self


class StageTraining(Strict):
    """One stage's share of the run.

    iterations: at most; 0 for a stage of a continued model that is not trained by itself. batch_size: pairs per
    iteration, over all processes together. micro_batch: pairs that a process computes at once, the gradients of several
    being accumulated; all of its share by default. learning_rate: at its highest; it rises over the first iterations
    and falls along a cosine. alpha: weight of the bending energy (§2.4).
    similarity: "ncc", over the whole image as the paper, "local_ncc", in windows, "mutual_information" or "mind_ssc",
    which images of two modalities can share. window: of "local_ncc", in voxels of the stage's images.
    random_affine: probability of a random affine map of the moving image. crop: instead of the augmentation's.
    """

    iterations: int = Field(ge=0)
    batch_size: int = Field(8, gt=0)
    micro_batch: Size | None = None
    learning_rate: float = Field(1e-3, gt=0)
    alpha: float = Field(0.05, ge=0)
    similarity: Similarity = Similarity.ncc
    window: int = Field(WINDOW, ge=3)
    random_affine: Share = 0.0
    crop: Voxels | None = None

    @model_validator(mode="after")
    def _fits(self) -> StageTraining:
        if self.window % 2 == 0:
            raise ValueError(f"window must be an odd number of voxels, not {self.window}")
        if self.batch_size % (self.micro_batch or 1):
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch {self.micro_batch}")
        return self


class FineTuning(StageTraining):
    """All stages together after the last one, the similarity taken from the final stage (§9).

    iterations: at most. alpha: one weight of the bending energy for all stages; else each keeps its own.
    alpha_factor: what its own is multiplied by.
    activation_checkpointing: compute what the backward pass needs again instead of keeping it: less memory, more time.
    """

    iterations: int = Field(gt=0)
    alpha: float | None = Field(None, ge=0)  # type: ignore[assignment]
    alpha_factor: float = Field(1.0, ge=0)
    activation_checkpointing: bool = False


class ModelCard(Strict):
    """What a user must know before trusting a model. Free text, shown by `dlir models`.

    name: of the model. title: in a line. anatomy: what the images show. modality: how they were taken.
    data, licence, citation: of the images that are trained on, so no preset has them. The run adds what it measures
    of the images; what is not given is "not stated".
    """

    name: str
    title: str
    anatomy: str
    modality: str
    data: str | None = None
    licence: str | None = None
    citation: str | None = None


class TrainingConfig(Strict):
    """Everything that `dlir train` needs besides the data.

    init: the model that is continued, where one is; what is left out here is then taken from it.
    card: what a user must know of the model. model: its images and stages. sources: the images that pairs are drawn
    from. augmentation: random changes of a pair. training: one entry for each stage. fine_tuning: all stages together,
    after the last one. seed: of all that chance decides, so that a run can be repeated.
    validation_every: iterations between validations, each of which is followed by a checkpoint. patience: validations
    without a better similarity after which a phase ends, with its best weights; 0 for never.
    precision: of the convolutions; everything else is computed in float32. bfloat16 is used where the device computes
        with it: on CUDA, and on a CPU that has instructions for it; else float32. The model's card says which it was.
    """

    init: Initial | None = None
    card: ModelCard
    model: dict[str, Any]
    sources: list[Source] = Field(min_length=1)
    augmentation: Augmentation
    training: list[StageTraining]
    fine_tuning: FineTuning | None = None
    seed: int = Field(0, ge=0)
    validation_every: int = Field(200, gt=0)
    patience: int = Field(0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _crops_fit(self) -> TrainingConfig:
        for stage in (*self.training, *([self.fine_tuning] if self.fine_tuning else [])):
            if stage.crop is not None and self.augmentation.crop is None:
                raise ValueError("a stage's crop needs one in augmentation, for images that lie on one grid")
            if stage.crop is not None and self.augmentation.rotate90 and stage.crop[0] != stage.crop[1]:
                raise ValueError(f"crop {stage.crop[0]} x {stage.crop[1]} is not square, which rotate90 needs")
        return self

    @property
    def spec(self) -> ModelSpec:
        """The model's specification. Raises ModelError where it contradicts itself."""
        return ModelSpec.from_dict(self.model)

    @property
    def frozen(self) -> frozenset[int]:
        """Stages, counted from 0, that are not trained."""
        return frozenset(number - 1 for number in self.init.freeze) if self.init else frozenset()

    @property
    def trained_alone(self) -> list[int]:
        """Stages, counted from 0, that are trained by themselves."""
        return [k for k, stage in enumerate(self.training) if stage.iterations and k not in self.frozen]

    @property
    def trained_together(self) -> list[int]:
        """Stages, counted from 0, that the fine-tuning trains."""
        return [k for k in range(len(self.training)) if k not in self.frozen] if self.fine_tuning else []

    @property
    def alphas(self) -> list[float]:
        """Weight of the bending energy of each stage in fine-tuning; none for a stage that stays as it is."""
        assert self.fine_tuning is not None
        tuning, frozen = self.fine_tuning, self.frozen
        own = [tuning.alpha_factor * stage.alpha if tuning.alpha is None else tuning.alpha for stage in self.training]
        return [0.0 if k in frozen else alpha for k, alpha in enumerate(own)]
