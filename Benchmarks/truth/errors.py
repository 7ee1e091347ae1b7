"""Pairs whose error is known place by place, which a map of the error to expect is held against.

Exact: the moving image is one that lies on the fixed one, mostly the fixed one itself, displaced by a known field and
changed in contrast, brightness, noise, resolution and content. Landmarks: as people placed them. Labels: of persons,
phases and dates as they are, how far the borders that people drew lie apart, which is a part of the error only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, read_image
from dlir.transforms.inverse import invert_points
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Points
from truth.measures import LabelMeasure, LandmarkMeasure, MotionMeasure
from truth.pair import Split, TruthPair, content_of
from truth.store import pairs

Kind = Literal["exact", "landmarks", "labels"]

HEARTS, HIPPOCAMPI, ALONE = "cardiac-cine", "hippocampus", "none"
REFINED = f"{HEARTS} refined"
# Places of a pair at most, structures at most, and voxels of the least structure.
PLACES, STRUCTURES, LEAST = 2_000, 20, 30
# Largest displacement as a part of the image's second shortest edge, and its bounds in mm; distance of control points.
_BEND, _BEND_MM = 1 / 12, (2.5, 18.0)
_KNOTS, _KNOTS_MM = (1 / 3.5, 1 / 7), ((12.0, 60.0), (7.0, 30.0))
# Layers of control points beyond the image.
_LAYERS = 4


class Places(Protocol):
    """Points of the fixed image (N, 3), LPS mm, and how far off a transform (fixed to moving point) is there."""

    points: Points
    structures: NDArray[np.int64]

    def errors(self, transform: CompositeTransform) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Case:
    """A pair, the ways it is registered, and how its errors are known. name: unique."""

    name: str
    group: str
    split: Split
    kind: Kind
    methods: tuple[str, ...]
    fixed: str = ""
    moving: str = ""
    changed: bool = True
    pair: TruthPair | None = None

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode()) % 10_000

    def load(self, data: Path) -> tuple[Volume, Volume, Places]:
        """Images and truth. Raises the errors of reading."""
        rng = np.random.default_rng(self.seed)
        if self.pair is None:
            fixed, moving = (read_image(str(data / name)) for name in (self.fixed, self.moving))
            moving, back = displaced(moving, rng, changed=self.changed)
            return fixed, moving, _exact(fixed, moving.grid, back, rng)
        content = content_of(self.pair)
        measure = content.measure
        if isinstance(measure, LabelMeasure):
            return content.fixed, content.moving, Borders.of(measure.fixed, measure.moving, rng)
        if isinstance(measure, LandmarkMeasure):
            return content.fixed, content.moving, Targets(measure.fixed, measure.moving)
        assert isinstance(measure, MotionMeasure)
        return content.fixed, content.moving, _exact(content.fixed, content.moving.grid, measure.back, rng)


def cases(data: Path) -> list[Case]:
    """All of them: those of other subjects, or of other images, are reported."""
    by_name = {pair.name: pair for pair in pairs(data)}
    return [*_exact_cases(data), *_known_cases(by_name)]


def _exact_cases(data: Path) -> Iterator[Case]:
    def heart(number: int) -> str:
        return sorted((data / f"acdc/patient{number:03d}").glob("*frame01.nii.gz"))[0].relative_to(data).as_posix()

    def side(number: int) -> str:
        return f"hippocampus/images/hippocampus_{number}.nii.gz"

    small, beating, alone = (HIPPOCAMPI, ALONE), (HEARTS, REFINED, ALONE), (ALONE,)
    itself: list[tuple[str, tuple[str, ...], Sequence[str], Sequence[str]]] = [
        ("hippocampus", small, (side(325), side(330)), (side(321), side(328))),
        ("acdc", beating, (heart(83), heart(87)), (heart(84), heart(88))),
        ("headneck_ct", alone, ("headneck_ct/pt_034/ct.nii.gz",), ("headneck_ct/pt_304/ct.nii.gz",)),
        ("brain_t1", alone, ("brain_t1/IXI013/t1.nii.gz",), ("brain_t1/IXI039/t1.nii.gz",)),
        ("spine_mr", alone, ("spine_mr/subj18_t1.nii.gz",), ("spine_mr/subj32_t1.nii.gz",)),
        ("lung_mr", alone, ("lung_mr/0006.nii.gz",), ("lung_mr/0011.nii.gz",)),
        ("abdomen", alone, ("totalseg/ct.nii.gz",), ("abdomen_ct/CRLM-CT-1004.nii.gz",)),
        ("other", alone, ("liver_mr_followup/scan1_t2.nii.gz",), ("lung_ct/baseline.mha",)),
    ]
    for group, methods, *halves in itself:
        for split, files in zip(("tune", "report"), halves, strict=True):
            for file in files:
                yield Case(f"exact/{file}", group, split, "exact", methods, file, file)
    frames, phases = "prostate_dynamic_mr/dynamic.nii.gz#", "breast_dce/UCSF-BR-06/phase"
    for split, first, others in (
        ("tune", f"{frames}0", (f"{frames}6", f"{frames}11")),
        ("report", f"{phases}0.nii.gz", (f"{phases}1.nii.gz", f"{phases}2.nii.gz")),
    ):
        for other in others:
            yield Case(f"exact/{other}", "contrast", split, "exact", alone, first, other, changed=False)


def _known_cases(by_name: Mapping[str, TruthPair]) -> Iterator[Case]:
    both, beating, heart, alone = (HIPPOCAMPI, ALONE), (HEARTS, REFINED), (HEARTS,), (ALONE,)
    chosen: list[tuple[Kind, tuple[str, ...], Sequence[str]]] = [
        ("exact", alone, [f"ct_mr/STS_{n:03d} mr_t1-to-ct, motion 1" for n in (10, 35)]),
        ("landmarks", alone, ["lung_ct/patient followup-to-baseline", "lung_ct/patient baseline-to-followup"]),
        ("labels", beating, [f"acdc/patient{n:03d} ES-to-ED" for n in (83, 82)]),
        ("labels", heart, [f"acdc/patient{n:03d} ES-to-ED" for n in (91, 94)]),
        ("labels", heart, [f"acdc/patient{n:03d} ED-to-ES" for n in (87, 90)]),
        ("labels", both, ["hippocampus/person163 325-to-person160 319", "hippocampus/person161 321-to-person159 317"]),
        (
            "labels",
            (HIPPOCAMPI,),
            ["hippocampus/person165 330-to-person163 326", "hippocampus/person166 332-to-person164 328"],
        ),
        ("labels", alone, ["headneck_ct/pt_034-to-pt_017", "headneck_ct/pt_299-to-pt_296"]),
        ("labels", alone, ["brain_t1/IXI013-to-IXI012", "brain_t1/IXI039-to-IXI034"]),
        ("labels", alone, ["spine_mr/subj18-to-subj04", "spine_mr/subj32-to-subj30"]),
        ("labels", alone, ["lung_mr/0006-to-0004", "lung_mr/0012-to-0011"]),
    ]
    for kind, methods, names in chosen:
        for pair in (by_name[name] for name in names):
            yield Case(f"{kind}/{pair.name}", pair.group, pair.split, kind, methods, pair=pair)


# -- truth --------------------------------------------------------------------------------------------


class Targets:
    """Points of the fixed image and where they lie in the moving one."""

    def __init__(self, points: Points, targets: Points) -> None:
        self.points, self._targets = points, targets
        self.structures = np.zeros(len(points), np.int64)

    def errors(self, transform: CompositeTransform) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(transform.apply(self.points) - self._targets, axis=1), np.float64)


def _exact(fixed: Volume, moving: ImageGrid, back: CompositeTransform, rng: np.random.Generator) -> Targets:
    """Voxels of the fixed image brighter than its mean that the moving grid holds. back: moving point -> fixed one."""
    bright = rng.permutation(np.argwhere(fixed.array > fixed.array.mean()))[: 4 * PLACES]
    points = fixed.grid.to_physical(bright[:, ::-1])
    found = invert_points(back, points)
    known = (found.residual < 0.01) & moving.contains(found.points)
    return Targets(points[known][:PLACES], found.points[known][:PLACES])


class Borders:
    """Places on the borders of structures: how far from there the border of the moving one lies, once carried there.

    points: between a voxel of a structure and one that is none, as `structures` says of which.
    """

    def __init__(self, points: Points, structures: NDArray[np.int64], moving: Volume) -> None:
        self.points, self.structures, self._moving = points, structures, moving

    @classmethod
    def of(cls, fixed: Volume, moving: Volume, rng: np.random.Generator) -> Borders:
        """Of the structures that both have. Raises EvaluationError where there is none."""
        counts = [np.bincount(label.array.ravel().astype(int), minlength=1 << 10) for label in (fixed, moving)]
        values = np.flatnonzero(np.minimum(*counts) >= LEAST)
        values = rng.permutation(values[values > 0])[:STRUCTURES]
        if not values.size:
            raise EvaluationError(f"'{fixed.source}' and '{moving.source}' have no structure in common")
        places = [_border(fixed, int(value), rng, max(60, 2 * PLACES // len(values))) for value in values]
        structures = np.repeat(values, [len(own) for own in places])
        return cls(np.concatenate(places), structures, moving)

    def errors(self, transform: CompositeTransform) -> NDArray[np.float64]:
        sent, found = transform.apply(self.points), np.empty(len(self.points))
        for value in np.unique(self.structures):
            own = self.structures == value
            found[own] = np.abs(sampled(_signed_distance(self._moving, int(value)), self._moving.grid, sent[own]))
        return found


def _border(label: Volume, value: int, rng: np.random.Generator, count: int) -> Points:
    """(N, 3) mm: middles of faces of voxels, none between thick slices, where nobody knows where a border runs."""
    inside, places = label.array == value, list[NDArray[np.float64]]()
    spacing = label.grid.spacing[::-1]
    for axis in range(3):
        if spacing[axis] > 3 * min(spacing):
            continue
        first, second = (np.moveaxis(inside, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        faces = np.argwhere(first != second).astype(float)
        faces[:, 0] += 0.5
        index = np.empty_like(faces)
        index[:, [axis, *(other for other in range(3) if other != axis)]] = faces
        places.append(index)
    chosen = rng.permutation(np.concatenate(places))[:count]
    return label.grid.to_physical(chosen[:, ::-1])


def _signed_distance(label: Volume, value: int) -> NDArray[np.float32]:
    """(z, y, x) mm to the border of a structure, less than 0 within; 0 between two voxels."""
    image = label.grid.to_sitk((label.array == value).astype(np.uint8))
    outer, inner = (
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(own, False, False, True)) for own in (image, image == 0)
    )
    return np.asarray((outer.clip(min=0) - inner.clip(min=0)), np.float32)


def sampled(array: NDArray[np.float32], grid: ImageGrid, points: Points) -> NDArray[np.float64]:
    """(N,): an array at points (N, 3) mm, linearly, beyond its border as at it."""
    size = np.array(grid.size)
    index = grid.to_index(points).clip(0, size - 1)
    low = np.minimum(np.floor(index).astype(int), np.maximum(size - 2, 0))
    part, found = index - low, np.zeros(len(points))
    for corner in np.ndindex(2, 2, 2):
        place = np.minimum(low + corner, size - 1)
        weight = np.where(corner, part, 1 - part).prod(1)
        found += weight * array[place[:, 2], place[:, 1], place[:, 0]]
    return found


# -- displaced ----------------------------------------------------------------------------------------


def displaced(image: Volume, rng: np.random.Generator, *, changed: bool) -> tuple[Volume, CompositeTransform]:
    """An image displaced by a smooth field, coarse and fine, and a shift; and the way back, to where a point of it was.

    changed: with another contrast, brightness here and there, noise, larger voxels, and three spots that are new.
    """
    grid, edge = image.grid, sorted(image.grid.extent)[1]
    bend = float(np.clip(_BEND * edge, *_BEND_MM)) * rng.uniform(0.7, 1.2)
    knots = [float(np.clip(part * edge, *limits)) for part, limits in zip(_KNOTS, _KNOTS_MM, strict=True)]
    direction = rng.normal(size=3)
    shift = AffineTransform.translation((0.6 * bend * direction / np.linalg.norm(direction)).tolist())
    fields = (_field(grid, bend, knots[0], rng), _field(grid, bend / 3, knots[1], rng))
    back, onto = CompositeTransform((*fields, shift)), grid
    if changed:
        thick = 3 * min(grid.spacing)
        onto = grid.with_spacing(np.where(np.array(grid.spacing) > thick, 1, rng.uniform(1, 1.5)) * grid.spacing)
    array = resample(image.array, grid, back, onto)
    array = np.asarray(_changed(array, onto, edge, rng) if changed else array, np.float32)
    return Volume(array, onto, f"{image.source}, displaced"), back


def _field(grid: ImageGrid, largest: float, knot: float, rng: np.random.Generator) -> BSplineTransform:
    """By chance, with so many mm between control points; 99 % of the grid is displaced by less than `largest`."""
    coarse = grid.with_spacing((knot,) * 3)
    control = coarse.lattice((-_LAYERS,) * 3, (1, 1, 1), [n + 2 * _LAYERS for n in coarse.size])
    field = BSplineTransform(rng.normal(size=(3, *control.shape)), control)
    places = grid.voxel_centers()[::2, ::2, ::2].reshape(-1, 3)
    lengths = np.linalg.norm(field.apply(places) - places, axis=1)
    return BSplineTransform(field.coefficients * largest / np.percentile(lengths, 99), control)


def _changed(array: NDArray[np.float32], grid: ImageGrid, edge: float, rng: np.random.Generator) -> NDArray[np.float64]:
    low, high = np.percentile(array, (1, 99))
    unit = np.clip((array - low) / (high - low), 0, 1.2) ** rng.uniform(0.6, 1.6)
    brightness = _smooth(array.shape, rng)
    noise = rng.uniform(0.02, 0.08) * np.exp(0.8 * brightness) * rng.normal(size=array.shape)
    unit = unit * (1 + 0.25 * brightness) + noise
    bright, centers = np.argwhere(unit > unit.mean()), grid.voxel_centers()
    for _ in range(3):
        place = centers[tuple(bright[rng.integers(len(bright))])]
        radius = float(np.clip(edge / 14, 2.5, 15)) * rng.uniform(0.6, 1.2)
        unit = unit + rng.choice([-0.5, 0.5]) * np.exp(-((centers - place) ** 2).sum(-1) / radius**2)
    return np.asarray(unit * (high - low) + low, np.float64)


def _smooth(shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.float64]:
    """By chance, from -1 to 1, with few ups and downs along each axis."""
    found = np.zeros(tuple(shape))
    places = np.meshgrid(*(np.linspace(0, np.pi, n) for n in shape), indexing="ij", sparse=True)
    for waves in np.ndindex(4, 4, 4):
        part = rng.normal() / (1 + sum(waves))
        found += part * np.cos(waves[0] * places[0]) * np.cos(waves[1] * places[1]) * np.cos(waves[2] * places[2])
    found -= found.mean()
    return np.asarray(found / np.abs(found).max(), np.float64)
