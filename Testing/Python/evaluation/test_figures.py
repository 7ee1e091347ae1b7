"""The figure: its colours, its grid, its slice, and what reaches the page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from chains import random_bspline, random_chain
from dlir.errors import GeometryError, OutputError
from dlir.evaluation.drawing import FOLDING_COLOR, carried_coordinates, jacobian_colors
from dlir.evaluation.figures import LabelPair, figure_plane, registration_figure
from dlir.geometry import ImageGrid
from dlir.io import Volume
from dlir.metrics.folding import jacobian_statistics
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import make_grid, random_grid

IDENTITY = CompositeTransform(())
GRID = make_grid((6, 40, 44), (1.5, 1.5, 8.0), (-20.0, 35.0, 60.0), (0.3, -0.2, 0.5))


def smooth_image(grid: ImageGrid, seed: int = 0) -> Volume:
    waves = np.random.default_rng(seed).uniform(0.02, 0.08, 3)
    return Volume(np.sin(grid.voxel_centers() * waves).sum(-1).astype(np.float32) * 100 + 300, grid, "image")


def disc(grid: ImageGrid, radius: float, shift: float = 0.0, slices: slice = slice(None)) -> Volume:
    """Label 1 inside a cylinder of `radius` mm along the slices' normal, `shift` mm off the middle."""
    _, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in grid.shape), indexing="ij")
    mask = np.hypot(x * grid.spacing[0] - shift, y * grid.spacing[1]) < radius
    outside = np.ones(grid.shape[0], bool)
    outside[slices] = False
    mask[outside] = False
    return Volume(mask.astype(np.uint8), grid, "label")


def folding_transform(grid: ImageGrid) -> CompositeTransform:
    """Pulls the middle of the grid along its first axis much further than the control points are apart."""
    control = make_grid((9, 11, 11), (12.0, 12.0, 12.0))
    matrix = ImageGrid(control.shape, control.spacing, (0.0, 0.0, 0.0), grid.direction)
    control = ImageGrid(control.shape, control.spacing, tuple(grid.center - matrix.center), grid.direction)
    coefficients = np.zeros((3, *control.shape))
    coefficients[:, 4, 5, 5] = 90 * grid.direction_matrix[:, 0]
    return CompositeTransform((BSplineTransform(coefficients, control),))


# -- colours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -0.0, -1e-6, -3.0, -np.inf, np.inf, np.nan])
def test_folding_is_bright_red(value: float) -> None:
    assert tuple(jacobian_colors(np.array([1.0, value]))[1]) == FOLDING_COLOR == (1, 0, 0, 1)


def test_nothing_but_folding_is_anywhere_near_red() -> None:
    colors = jacobian_colors(np.concatenate([np.linspace(1e-6, 2.5, 2001), [1e3]]))
    red, green, blue = colors[:, :3].T
    assert (red - np.maximum(green, blue)).max() < 0.5
    assert (np.linalg.norm(colors[:, :3] - FOLDING_COLOR[:3], axis=1) > 0.5).all()


def test_colors_part_from_white_at_one_and_end_at_two() -> None:
    shrunk, same, grown, most, more = jacobian_colors([0.4, 1.0, 1.6, 2.0, 7.0])
    assert same[:3].min() > 0.94
    assert np.ptp(same[:3]) < 0.02
    assert shrunk[2] > shrunk[0] + 0.2  # towards blue and green
    assert grown[0] > grown[2] + 0.2  # towards brown
    np.testing.assert_array_equal(most, more)


def test_red_is_exactly_where_folding_was_put_and_counted() -> None:
    determinant = np.random.default_rng(3).normal(0.8, 0.7, (4, 15, 17)).astype(np.float32)
    determinant[1, 2, 3] = np.nan
    red = (jacobian_colors(determinant) == FOLDING_COLOR).all(-1)
    np.testing.assert_array_equal(red, ~(determinant > 0))
    assert red.sum() == jacobian_statistics(determinant).folding_count > 100


# -- the deformation grid ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_grid_lines_stick_to_the_moving_image(seed: int) -> None:
    """An image whose value is the position across the slice is, after warping, the coordinate of the lines."""
    rng = np.random.default_rng(seed)
    start = CompositeTransform((AffineTransform.translation(rng.uniform(-20, 20, 3).tolist()),))
    bend = random_bspline(rng, make_grid((9, 9, 9), (16.0,) * 3, tuple(GRID.center - 64)), fraction=0.2)
    transform = CompositeTransform((bend, *start.parts))
    plane = figure_plane(GRID)
    across, down = carried_coordinates(transform, start, plane).transpose(2, 0, 1)
    # The moving image lies where `start` brings the fixed one's surroundings.
    moving_grid = ImageGrid((30, 80, 80), (3.0, 3.0, 3.0), tuple(start.apply(GRID.center[None])[0] - [120, 120, 45]))
    before = plane.to_index(moving_grid.voxel_centers() - start.parts[0].matrix[:3, 3]) * plane.spacing
    for axis, lines in ((0, across), (1, down)):
        warped = resample(before[..., axis], moving_grid, transform, plane, default=np.nan)[0]
        assert np.isfinite(warped).mean() > 0.9
        inner = np.isfinite(warped)
        np.testing.assert_allclose(warped[inner], lines[inner], atol=1e-3)


def test_grid_is_regular_before_registration() -> None:
    rng = np.random.default_rng(5)
    start, plane = random_chain(rng), figure_plane(GRID)
    start = CompositeTransform(start.parts[-1:])
    across, down = carried_coordinates(start, start, plane).transpose(2, 0, 1)
    rows, columns = plane.shape[1:]
    np.testing.assert_allclose(across, np.tile(np.arange(columns) * 1.5, (rows, 1)), atol=1e-6)
    np.testing.assert_allclose(down, np.tile(np.arange(rows)[:, None] * 1.5, (1, columns)), atol=1e-6)


def test_grid_shows_where_the_tissue_came_from() -> None:
    """Where T points 8 mm to the right, the tissue seen comes from 8 mm further right."""
    plane = figure_plane(GRID)
    right = 8 * plane.direction_matrix[:, 0]
    shifted = carried_coordinates(CompositeTransform((AffineTransform.translation(right.tolist()),)), IDENTITY, plane)
    still = carried_coordinates(IDENTITY, IDENTITY, plane)
    np.testing.assert_allclose(shifted - still, np.broadcast_to([8.0, 0.0], still.shape), atol=1e-9)


# -- the slice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_slice_is_voxels_of_the_image_across_its_thickest_axis(seed: int) -> None:
    grid = random_grid(np.random.default_rng(seed))
    plane = figure_plane(grid)
    index = grid.to_index(plane.voxel_centers())
    np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
    assert grid.contains(plane.voxel_centers()).all()
    assert plane.spacing[2] == pytest.approx(max(grid.spacing))
    assert plane.shape[1] * plane.shape[2] == np.prod(grid.shape) / grid.size[int(np.argmax(grid.spacing))]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize(("thickest", "right", "down"), [(2, (1, 0, 0), (0, 1, 0)), (1, (1, 0, 0), (0, 0, -1)),
                                                         (0, (0, 1, 0), (0, 0, -1))])  # fmt: skip
def test_slice_lies_as_on_a_light_box(
    order: tuple[int, ...], thickest: int, right: tuple[int, ...], down: tuple[int, ...]
) -> None:
    """Axial: left is right, back is down. Coronal and sagittal: feet are down. Whatever the order of the axes."""
    spacing = [1.0, 1.0, 1.0]
    spacing[thickest] = 5.0
    grid = make_grid((5, 6, 7), (spacing[0], spacing[1], spacing[2]), angles=(0.05, -0.08, 0.06))
    for flip in (False, True):
        plane = figure_plane(grid.permuted(order, (flip, not flip, flip)))
        assert plane.direction_matrix[:, 0] @ right > 0.95
        assert plane.direction_matrix[:, 1] @ down > 0.95


def test_slice_shows_where_the_labels_differ_most_and_their_surroundings() -> None:
    grid = make_grid((9, 200, 220), (1.0, 1.0, 8.0), angles=(0.2, 0.1, -0.3))
    fixed, moving = disc(grid, 20), disc(grid, 20)
    moving.array[6, :, 110:] = 0  # half of slice 6 is missing, a little of slice 2
    moving.array[2, :, 125:] = 0
    plane = figure_plane(grid, LabelPair(fixed, moving))
    assert grid.to_index(plane.origin)[2] == pytest.approx(6)
    assert plane.shape == (1, 40 + 2 * 55, 40 + 2 * 55)
    np.testing.assert_allclose(plane.center, grid.to_physical([109.5, 99.5, 6]), atol=1e-6)


def test_labels_that_one_image_lacks_do_not_choose_the_slice() -> None:
    fixed, moving = disc(GRID, 12), disc(GRID, 12, slices=slice(3, 5))
    fixed.array[0] = 7
    plane = figure_plane(GRID, LabelPair(fixed, moving))
    assert GRID.to_index(plane.origin)[2] != pytest.approx(0)


def test_labels_that_agree_or_are_empty_still_give_a_slice() -> None:
    label, empty = disc(GRID, 12, slices=slice(4, 5)), disc(GRID, 0)
    assert GRID.to_index(figure_plane(GRID, LabelPair(label, label)).origin)[2] == pytest.approx(4)
    assert figure_plane(GRID, LabelPair(empty, empty)) == figure_plane(GRID)


# -- the page ----------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    saved: list[Figure] = []
    save: Callable[..., None] = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def labels(note: str = "Structure: Dice 0.812, HD 12.3 mm") -> LabelPair:
    return LabelPair(disc(GRID, 15), disc(GRID, 12, 5), (note, note))


def cut_out(path: Path, figure: Figure, panel: int) -> NDArray[Any]:
    """(rows, columns, 3): a panel of a saved figure."""
    pixels: NDArray[Any] = imread(path)
    rows, columns = pixels.shape[:2]
    (left, bottom), (right, top) = figure.axes[panel].get_position().get_points()
    return pixels[
        round((1 - top) * rows) : round((1 - bottom) * rows), round(left * columns) : round(right * columns), :3
    ]


def test_folding_reaches_the_page_where_it_was_put(tmp_path: Path, drawn: list[Figure]) -> None:
    fixed, transform = smooth_image(GRID), folding_transform(GRID)
    registration_figure(tmp_path / "a.png", fixed, fixed, transform)
    plane = figure_plane(GRID)
    folded = jacobian_map(transform, plane)[0] <= 0
    assert 20 < folded.sum() < folded.size / 2
    panel = cut_out(tmp_path / "a.png", drawn[0], 3)
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(folded.shape, panel.shape, strict=False)
    )
    np.testing.assert_array_equal((panel[np.ix_(rows, columns)] == FOLDING_COLOR[:3]).all(-1), folded)
    assert f"(bright red): {folded.sum()} voxels" in "".join(text.get_text() for text in drawn[0].texts)


@pytest.mark.parametrize("given", [None, labels("A structure with a long name: Dice 0.812, HD 12.3 mm. " * 2)],
                         ids=["images alone", "labels"])  # fmt: skip
def test_no_text_is_clipped_or_overlaps(given: LabelPair | None, tmp_path: Path, drawn: list[Figure]) -> None:
    transform = folding_transform(GRID)
    registration_figure(tmp_path / "a.png", smooth_image(GRID), smooth_image(GRID, 1), transform, labels=given)
    figure = drawn[0]
    assert len(figure.axes) == (4 if given is None else 6)
    (bar,) = figure.axes[-1].child_axes
    assert bar.get_ylabel() == "Jacobian determinant"
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    panels = [*(axes.get_window_extent() for axes in figure.axes), bar.get_tightbbox()]
    for box in [*boxes, *panels]:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert not [pair for pair in combinations([*boxes, *panels], 2) if pair[0].overlaps(pair[1])]


def test_panels_say_what_they_show(tmp_path: Path, drawn: list[Figure]) -> None:
    image, pair = smooth_image(GRID), labels("Dice 0.5")
    registration_figure(tmp_path / "a.png", image, image, IDENTITY, labels=pair, titles=("ED", "ES"))
    said = "\n".join(text.get_text() for text in drawn[0].texts)
    for words in ("ED", "ES", "carried along", "Motion through the slice", "Labels before", "Labels after", "Dice 0.5",
                  "(bright red): none"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(60, 40), (200, 20), (40, 80)],
    ids=["usual", "much higher than wide", "much wider than high"],
)
def test_a_square_is_square_whatever_the_spacing(rows: int, columns: int, tmp_path: Path, drawn: list[Figure]) -> None:
    image = Volume(np.zeros((3, rows, columns), np.float32), make_grid((3, rows, columns), (2.5, 1.0, 8.0)), "image")
    image.array[:, rows // 2 - 10 : rows // 2 + 10, columns // 2 - 4 : columns // 2 + 4] = 1  # 20 mm x 20 mm
    registration_figure(tmp_path / "a.png", image, image, IDENTITY)
    bright = cut_out(tmp_path / "a.png", drawn[0], 1)[9:-9, 9:-9].min(-1) > 0.6
    height, width = (int(bright.any(axis).sum()) for axis in (1, 0))
    assert width > 40
    assert height == pytest.approx(width, rel=0.06)


def test_drawing_needs_no_display_and_leaves_no_global_state() -> None:
    code = "import sys, dlir.evaluation.figures; assert 'matplotlib.pyplot' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_errors_name_the_remedy_and_leave_nothing(tmp_path: Path) -> None:
    image = smooth_image(GRID)
    with pytest.raises(GeometryError, match="one slice"):
        registration_figure(tmp_path / "a.png", image, image, IDENTITY, plane=GRID)
    with pytest.raises(OutputError, match="folder"):
        registration_figure(tmp_path / "missing" / "a.png", image, image, IDENTITY)
    assert list(tmp_path.iterdir()) == []
