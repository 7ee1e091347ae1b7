"""What a registration is asked for: the one description that the command line, Python, the worker and Slicer share.

Standard library only, so that whoever asks can import this at once; `dlir.registration.pipeline` does what it says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from dlir.errors import OptionError, ProtocolError, shown
from dlir.registration.choices import (
    AUTO_MODEL,
    AUTO_SIMILARITY,
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    IMAGE_FORMATS,
    INITIALIZATIONS,
    KINDS,
    NO_MODEL,
    OUTPUT_FORMS,
    SIMILARITIES,
    Beginning,
    Kind,
    budget_of,
)
from dlir.registration.codec import BASIC, Reader, build, optional, plain, several

if TYPE_CHECKING:
    from dlir.io.reading import Volume
    from dlir.transforms.spatial import CompositeTransform

_PREFIX = re.compile(r"(\w[\w.-]{0,99})?", re.ASCII)


@dataclass(frozen=True)
class ArrayFile:
    """A volume on its way between processes.

    array: path of a .npy file, (z, y, x). grid: `ImageGrid.to_dict()`. name: how messages to the user call it.
    """

    array: str
    grid: dict[str, Any]
    name: str


# A file or DICOM folder as for `read_image`, an array file, or a volume in memory, which cannot be serialised.
ImageSource: TypeAlias = "str | ArrayFile | Volume"
# A file as for `read_landmarks`, or points (x, y, z) in LPS mm; None keeps the place of one that is not known.
PointSource: TypeAlias = "str | tuple[tuple[float, float, float] | None, ...]"
# An ITK file, or a transform in memory, which cannot be serialised.
TransformSource: TypeAlias = "str | CompositeTransform"


@dataclass(frozen=True)
class Comparison:
    """Two labels that mean the same structure: value `value` of `moving_labels[layer]`, once propagated, is scored
    against value `fixed_value` of `fixed_labels[fixed_layer]`, and found in the report by `name`.
    """

    name: str
    layer: int
    value: int
    fixed_layer: int
    fixed_value: int


@dataclass(frozen=True)
class Outputs:
    """Where results go, and how they are kept.

    folder: made where missing. form: "files" writes images, report.json and moving_landmarks.csv; "arrays" writes
    .npy files for another process of ours. displacement: whether the displacement field (mm, LPS) is written too.
    html: whether the report is written as a page of HTML with pictures, too.
    full_paths: whether the report names images with the folders above them. overwrite: whether files may be replaced
    that are another registration's, or of none; those of the same pair are in any case, and arrays replace all.
    format: what the images are written as, one of IMAGE_FORMATS; arrays have a form of their own.
    prefix: with which the names of files begin: letters, digits, "_", "-" and ".", not first. Registrations of
    different ones can lie in one folder.
    """

    folder: str
    form: str = "files"
    displacement: bool = False
    full_paths: bool = False
    overwrite: bool = False
    format: str = DEFAULT_FORMAT
    html: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise OptionError(
                f"prefix is '{shown(self.prefix)}'; names of files may begin with up to 100 letters, digits, '_', '-' "
                "and '.', the first of which is a letter, a digit or '_'"
            )
        if self.form not in OUTPUT_FORMS:
            raise ProtocolError(f"'form' is '{self.form}'; use one of {', '.join(OUTPUT_FORMS)}")
        if self.format not in IMAGE_FORMATS:
            raise ProtocolError(f"'format' is '{self.format}'; use one of {', '.join(IMAGE_FORMATS)}")


@dataclass(frozen=True)
class RegistrationRequest:
    """Register `moving` to `fixed`.

    outputs: None for results in memory alone; such a request cannot be sent to another process.
    model: a name of the catalogue, a model file, "none", or "auto": the installed model that was made for such images,
    and none where there is no such model.
    refine: for how long the pair is optimised, see `budget_of`; None is "off" with a model, and else the default.
    similarity, landmark_weight: of the optimisation; how much landmarks of both images steer it, see
    `dlir.optimization.objective.Steering`.
    kind: how far the transform may go; what does not bend is found without a model.
    device, initialize: see `dlir.registration.choices`.
    initial_transform: fixed to moving point, instead of `initialize`, which else is "auto".
    fixed_mask, moving_mask: not 0 where the figures of the report count.
    moving_labels: layers of labels drawn on the moving image, to be brought onto the fixed image's grid.
    fixed_labels: layers drawn on the fixed image that `comparisons` scores them against; None compares every value of
    the one fixed and the one moving layer, under its number, or what has the same name on both sides, see `by_layers`.
    backward_labels: layers drawn on the fixed image, to be carried onto the moving image's grid.
    moving_landmarks: to be brought onto the fixed image. fixed_landmarks: those they correspond to, one by one, for
    the target registration error.
    error_map: whether the error to expect is estimated, voxel by voxel.
    Masks and labels in files lie on the voxels of their image; those in arrays and volumes may lie on any grid.
    Raises OptionError and ProtocolError for values that contradict each other.
    """

    fixed: ImageSource
    moving: ImageSource
    outputs: Outputs | None
    model: str = DEFAULT_MODEL
    device: str = "auto"
    refine: str | None = None
    kind: str = Kind.deformable.value
    similarity: str = AUTO_SIMILARITY
    landmark_weight: float = 0.0
    initialize: str | None = None
    initial_transform: TransformSource | None = None
    fixed_mask: ImageSource | None = None
    moving_mask: ImageSource | None = None
    moving_labels: tuple[ImageSource, ...] = ()
    fixed_labels: tuple[ImageSource, ...] = ()
    comparisons: tuple[Comparison, ...] | None = None
    backward_labels: tuple[ImageSource, ...] = ()
    fixed_landmarks: PointSource | None = None
    moving_landmarks: PointSource | None = None
    error_map: bool = False

    def __post_init__(self) -> None:
        if self.fixed_labels and not self.moving_labels:
            raise OptionError("--fixed-label is compared with the moving label; give --moving-label too")
        if self.fixed_landmarks is not None and self.moving_landmarks is None:
            raise OptionError("--fixed-landmarks are compared with the moving landmarks; give --moving-landmarks too")
        if self.initial_transform and self.initialize:
            raise OptionError("--initial-transform and --initialize exclude each other; leave one out")
        if self.initialize is not None and self.initialize not in INITIALIZATIONS:
            raise ProtocolError(f"'initialize' is '{self.initialize}'; use one of {', '.join(INITIALIZATIONS)}")
        self._check_comparisons()
        self._check_optimisation()
        for name, points in (("fixed", self.fixed_landmarks), ("moving", self.moving_landmarks)):
            if isinstance(points, tuple) and not (any(points) and all(map(_is_point, points))):
                raise ProtocolError(f"'{name}_landmarks' are not points of three numbers; give (x, y, z) in LPS mm")

    def _check_comparisons(self) -> None:
        if self.comparisons is None:
            if self.fixed_labels and (len(self.fixed_labels), len(self.moving_labels)) != (1, 1):
                raise ProtocolError("several layers of labels are compared by 'comparisons' only; say which with which")
            return
        for pair in self.comparisons:
            if not (0 <= pair.layer < len(self.moving_labels) and 0 <= pair.fixed_layer < len(self.fixed_labels)):
                raise ProtocolError(f"comparison '{pair.name}' names a layer that the request does not have")
        if len({pair.name for pair in self.comparisons}) < len(self.comparisons):
            raise ProtocolError("two comparisons have the same name; their scores could not be told apart")

    def _check_optimisation(self) -> None:
        if self.kind not in KINDS:
            raise ProtocolError(f"'kind' is '{self.kind}'; use one of {', '.join(KINDS)}")
        if self.similarity not in SIMILARITIES:
            raise ProtocolError(f"'similarity' is '{self.similarity}'; use one of {', '.join(SIMILARITIES)}")
        if not (math.isfinite(self.landmark_weight) and self.landmark_weight >= 0):
            raise OptionError(f"the landmark weight is {self.landmark_weight:g}; give 0 or more")
        if self.landmark_weight and (self.fixed_landmarks is None or self.moving_landmarks is None):
            raise OptionError(
                "a landmark weight needs landmarks on both images; give --fixed-landmarks and --moving-landmarks"
            )
        if self.initialize == Beginning.second.value and self.model != NO_MODEL and self.kind == Kind.deformable.value:
            raise OptionError("--initialize 2 is the second best position of an optimisation; give --model none too")
        budget = None if self.refine is None else budget_of(self.refine)
        if self.kind != Kind.deformable.value and self.model not in (AUTO_MODEL, NO_MODEL):
            raise OptionError(f"--kind {self.kind} is found without a model; leave --model out, or give --model none")
        alone = self.model == NO_MODEL or self.kind != Kind.deformable.value
        if self.refine is not None and budget is None and alone:
            raise OptionError("without a model the pair is optimised; give --refine a budget, such as 10s, or a model")

    @property
    def full_paths(self) -> bool:
        """Whether the report names images with the folders above them."""
        return self.outputs is not None and self.outputs.full_paths

    def images(self) -> Iterator[ImageSource]:
        """Every image, mask and label map that is read."""
        single = (self.fixed, self.moving, self.fixed_mask, self.moving_mask)
        yield from (source for source in single if source is not None)
        yield from (*self.moving_labels, *self.fixed_labels, *self.backward_labels)

    def input_files(self) -> list[str]:
        """Whatever is read from disk, and must not be overwritten; the model aside."""
        images = (source.array if isinstance(source, ArrayFile) else source for source in self.images())
        named = (*images, self.initial_transform, self.fixed_landmarks, self.moving_landmarks)
        return [name for name in named if isinstance(name, str)]


def structure_name(layer: int, value: int, *, several: bool) -> str:
    """How a report calls a propagated structure that has no name. several: whether there is more than one layer."""
    return f"{layer}/{value}" if several else str(value)


def to_values(request: RegistrationRequest) -> dict[str, Any]:
    """The request as plain values that JSON knows. Raises ProtocolError for a volume in memory, which has none, and for
    a request without outputs, whose results nobody would get.
    """
    if request.outputs is None:
        raise ProtocolError("a request without outputs cannot be sent; give a folder for its results")
    for source in request.images():
        if not isinstance(source, (str, ArrayFile)):
            raise ProtocolError(f"'{source.source}' lies in memory and cannot be sent; give a path or an array file")
    if not isinstance(request.initial_transform, (str, type(None))):
        raise ProtocolError("the initial transform lies in memory and cannot be sent; give a path")
    return asdict(request)


def from_values(values: Any, where: str) -> RegistrationRequest:
    """The request that `to_values` made plain. where: what messages call it.

    Raises ProtocolError, naming the key that is missing, unknown or wrong, and as the request does.
    """
    request: RegistrationRequest = build(RegistrationRequest, values, where, _READERS)
    return request


def _is_point(point: Any) -> bool:
    return point is None or (len(point) == 3 and all(map(math.isfinite, point)))


def _object(kind: type[Any]) -> Reader:
    return lambda value, where: build(kind, value, where, _READERS)


def _image(value: Any, where: str) -> str | ArrayFile:
    source: str | ArrayFile = value if isinstance(value, str) else _object(ArrayFile)(value, where)
    return source


def _points(value: Any, where: str) -> Any:
    return value if isinstance(value, str) else several(optional(several(plain(int, float))))(value, where)


_READERS: dict[Any, Reader] = {
    **BASIC,
    "ImageSource": _image,
    "ImageSource | None": optional(_image),
    "tuple[ImageSource, ...]": several(_image),
    "tuple[Comparison, ...] | None": optional(several(_object(Comparison))),
    "PointSource | None": optional(_points),
    "TransformSource | None": BASIC["str | None"],
    "Outputs | None": _object(Outputs),  # never null: results in memory stay in their process
}
