"""`dlir.register`: one pair, by a session that stays warm."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlir.api.inputs import ImageLike, LabelLike, PointsLike, model_name, request_of
from dlir.api.result import Result
from dlir.errors import note
from dlir.registration.choices import AUTO_SIMILARITY, DEFAULT_FORMAT, DEFAULT_MODEL, Kind
from dlir.registration.progress import Notify, Progress, silent
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    import SimpleITK as sitk

    from dlir.model.file import ModelHeader
    from dlir.model.multistage import MultiStageModel
    from dlir.registration.session import Session

_session: Session | None = None
_beginning = threading.Lock()


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory. header: what its file says of itself. network: what computes, a torch module."""

    header: ModelHeader
    network: MultiStageModel

    @property
    def name(self) -> str:
        """What it is called."""
        from dlir.model.file import name_of

        return name_of(self.header)

    @property
    def path(self) -> Path:
        """Its file."""
        return self.header.path

    @property
    def card(self) -> dict[str, Any]:
        """What it was trained on, its licence, its figures on held-out data."""
        return self.header.card


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    model: str | os.PathLike[str] | Model = DEFAULT_MODEL,
    moving_label: LabelLike | None = None,
    fixed_label: LabelLike | None = None,
    fixed_mask: LabelLike | None = None,
    moving_mask: LabelLike | None = None,
    moving_landmarks: PointsLike | None = None,
    fixed_landmarks: PointsLike | None = None,
    initial_transform: str | os.PathLike[str] | sitk.Transform | None = None,
    initialize: str | None = None,
    refine: str | None = None,
    kind: str = Kind.deformable.value,
    similarity: str = AUTO_SIMILARITY,
    landmark_weight: float = 0.0,
    device: str = "auto",
    output: str | os.PathLike[str] | None = None,
    displacement: bool = False,
    html: bool = False,
    error_map: bool = False,
    format: str = DEFAULT_FORMAT,
    prefix: str = "",
    full_paths: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
    notify: Notify = note,
) -> Result:
    """Register `moving` to `fixed`.

    >>> import dlir
    >>> result = dlir.register(**dlir.sample_pair())
    >>> result
    <dlir.Result: moving_es.nrrd to fixed_ed.nrrd by cardiac-cine, good>
    >>> result.warped.GetSize() == result.warped_label.GetSize() == result.jacobian.GetSize()
    True
    >>> scores = result.report["labels"]["1"]
    >>> scores["after"]["dice"] > scores["before"]["dice"]
    True

    fixed, moving: a file or DICOM folder as on the command line; a SimpleITK image; a nibabel image; a `dlir.Volume`;
    (array, grid): an array of numpy or torch, (z, y, x), and a `dlir.ImageGrid`, or an image that lies in its place.
    model: "auto", "none", a name, a file, or what `load_model` gave.
    moving_label, fixed_label, fixed_mask, moving_mask: as the images, in whole numbers.
    moving_landmarks, fixed_landmarks: a file, or (N, 3) in LPS mm, NaN for a point that is not known.
    initial_transform: a file or a SimpleITK transform, fixed to moving point.
    refine: for how long the pair is optimised, such as "10s", "50it" or "converged"; None is "off" with a model.
    output: a folder for what the command writes; None writes nothing. displacement, html, format, prefix,
    full_paths, overwrite: about that; format is "nrrd", "nii.gz" or "mha", and names begin with prefix.
    error_map: whether the error to expect in each voxel is estimated, which takes time.
    threads: of the CPU; None leaves torch's as they are, if that is imported already, and is else what the environment
    says or the cores here. progress: gets the step, in words, and the fraction done. notify: gets what the user should
    know although it goes on; a warning if not given.
    All else as `dlir register` has it.

    The model stays in memory for the next call. Several threads may call this: they read at the same time, and compute
    one after the other. Raises the `dlir.DLIRError`s of the parts.
    """
    from dlir.registration.pipeline import run

    request = request_of(
        fixed,
        moving,
        model=model,
        moving_label=moving_label,
        fixed_label=fixed_label,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        moving_landmarks=moving_landmarks,
        fixed_landmarks=fixed_landmarks,
        initial_transform=initial_transform,
        initialize=initialize,
        refine=refine,
        kind=kind,
        similarity=similarity,
        landmark_weight=landmark_weight,
        device=device,
        output=output,
        displacement=displacement,
        html=html,
        error_map=error_map,
        format=format,
        prefix=prefix,
        full_paths=full_paths,
        overwrite=overwrite,
    )
    prepare_threads(threads)
    return Result(run(request, warm_session, progress, notify))


def load_model(name: str | os.PathLike[str]) -> Model:
    """The model of a name (see `dlir models`) or of a file, in memory, where the next `register` with it finds it.

    >>> import dlir
    >>> dlir.load_model("cardiac-cine").card["title"]
    'Short-axis cardiac cine MR, within one person'

    Raises ModelError, and OptionError for what is neither.
    """
    from dlir.model.catalogue import resolve_model

    prepare_threads(None)
    path, session = resolve_model(model_name(name)), warm_session()
    return Model(session.load(path), session.network(path))


def prepare_threads(threads: int | None) -> None:
    """Before torch is imported, or as asked for: see `register`. Raises OptionError."""
    if threads is not None or "torch" not in sys.modules:
        use_threads(threads)


def warm_session() -> Session:
    """The one session of this process, which imports torch."""
    global _session
    with _beginning:
        if _session is None:
            from dlir.registration.session import Session

            _session = Session()
        return _session
