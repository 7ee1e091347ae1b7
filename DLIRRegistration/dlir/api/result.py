"""What a registration gives to Python."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dlir.api.inputs import ImageLike
from dlir.errors import ImageError
from dlir.registration.choices import DEFAULT_FORMAT
from dlir.registration.judging.verdict import Verdict

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    import torch
    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid
    from dlir.registration.pipeline import Finished

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Arrays(Generic[T]):
    """A result as arrays or tensors on `grid`, (z, y, x), which share the result's memory.

    warped, jacobian: float32. warped_labels: one for each layer of the moving label, whole numbers.
    """

    grid: ImageGrid
    warped: T
    jacobian: T
    warped_labels: tuple[T, ...]


class Result:
    """One registered pair.

    report: what report.json holds, as plain values. files: of what was written, by what they are; none where `register`
    was given no output. Images and the transform are SimpleITK's, made when they are first asked for; images lie on the
    fixed image's grid.
    """

    def __init__(self, finished: Finished) -> None:
        # What the verdict was found by is large, and not needed any more.
        lean = replace(finished.result, prediction=None, optimising=None)
        self._finished = replace(finished, result=lean)
        self.report: dict[str, Any] = finished.report
        self.files: dict[str, Path] = {key: Path(path) for key, path in finished.files.items()}

    def __repr__(self) -> str:
        fixed, moving, model = self.report["fixed"], self.report["moving"], self.report["model"]
        return f"<dlir.Result: {moving['file']} to {fixed['file']} by {model['name']}, {self.verdict.level}>"

    @property
    def grid(self) -> ImageGrid:
        """Of the fixed image."""
        return self._finished.loaded.fixed.grid

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to rely on it: its `level` is "good", "check" (look first) or "failed", its `reason` says why."""
        return Verdict.from_report(self.report)

    @cached_property
    def warped(self) -> sitk.Image:
        """The moving image, float32."""
        return self.grid.to_sitk(self._finished.result.warped)

    @cached_property
    def jacobian(self) -> sitk.Image:
        """The determinant of the transform's derivative, float32: 1 is no change of volume, 0 or less is folding."""
        return self.grid.to_sitk(self._finished.result.jacobian)

    @cached_property
    def error_map(self) -> sitk.Image | None:
        """The error to expect in each voxel, mm, float32; None where it was not asked for."""
        found = self._finished.result.error_map
        return None if found is None else self.grid.to_sitk(found)

    @cached_property
    def transform(self) -> sitk.CompositeTransform:
        """From points of the fixed image to points of the moving image, LPS mm, exact: as sitk.Resample takes it."""
        from dlir.transforms.files import to_sitk

        transform: sitk.CompositeTransform = to_sitk(self._finished.result.transform)
        return transform

    @cached_property
    def displacement(self) -> sitk.Image:
        """How far each voxel's point moves to its place in the moving image: vectors (x, y, z), LPS mm, float32."""
        from dlir.transforms.resample import displacement_field

        return self.grid.to_sitk(displacement_field(self._finished.result.transform, self.grid), is_vector=True)

    @cached_property
    def warped_labels(self) -> tuple[sitk.Image, ...]:
        """The moving label, nearest neighbour, in its own type: one image for each layer of its segmentation."""
        return tuple(map(self.grid.to_sitk, self._finished.propagated.after))

    @property
    def warped_label(self) -> sitk.Image | None:
        """The same where it has one layer; None where no label was given. Raises ImageError where it has several."""
        if len(self.warped_labels) > 1:
            raise ImageError(f"the moving label has {len(self.warped_labels)} layers; take them from warped_labels")
        return self.warped_labels[0] if self.warped_labels else None

    @property
    def moving_landmarks(self) -> NDArray[np.float64] | None:
        """(N, 3) LPS mm, where they lie on the fixed image; NaN where that is not known. None without any."""
        carried = self._finished.propagated.landmarks
        return None if carried is None else carried.points

    def apply(
        self,
        image: ImageLike,
        *,
        label: bool = False,
        onto: ImageLike | ImageGrid | None = None,
        interpolation: str | None = None,
    ) -> sitk.Image:
        """Another image that lies on the moving image, brought onto the fixed one.

        image: as for `dlir.apply`. label: whether it holds labels, which keep their type; others become float32.
        interpolation: as for `dlir.apply`. onto: another grid in the fixed image's space, or an image that has it.
        Outside of the image it is 0 for labels and for several values per voxel, and else the image's minimum, as in
        `warped`.
        """
        from dlir.api.applying import apply

        way = self._finished.result.transform
        how: dict[str, Any] = {"reference": self.grid if onto is None else onto, "interpolation": interpolation}
        moved: sitk.Image = apply(way, label=image, **how) if label else apply(way, image=image, **how)
        return moved

    def numpy(self) -> Arrays[NDArray[Any]]:
        """The images as arrays of numpy."""
        result, labels = self._finished.result, self._finished.propagated.after
        return Arrays(self.grid, result.warped, result.jacobian, tuple(labels))

    def torch(self) -> Arrays[torch.Tensor]:
        """The images as tensors of torch, on the CPU; labels in types that all its versions compute with."""
        import numpy as np
        import torch

        def tensor(array: NDArray[Any]) -> torch.Tensor:
            wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}.get(array.dtype.name, array.dtype)
            return torch.from_numpy(array.astype(wider, copy=False))

        found = self.numpy()
        labels = tuple(map(tensor, found.warped_labels))
        return Arrays(found.grid, tensor(found.warped), tensor(found.jacobian), labels)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        displacement: bool = False,
        format: str = DEFAULT_FORMAT,
        prefix: str = "",
        overwrite: bool = False,
    ) -> dict[str, Path]:
        """Write what `dlir register --output FOLDER` writes; the files' paths, by what they are. All or none.

        displacement: whether that too. format: of images, "nrrd", "nii.gz" or "mha". prefix: with which the names of
        files begin. overwrite: whether files that are another registration's, or of none, may be replaced. Raises
        OptionError for a prefix that is none, and OutputError.
        """
        from dlir.registration.pipeline import save
        from dlir.registration.request import Outputs

        outputs = Outputs(
            os.fspath(folder), displacement=displacement, overwrite=overwrite, format=format, prefix=prefix
        )
        return {key: Path(path) for key, path in save(self._finished, outputs).files.items()}
