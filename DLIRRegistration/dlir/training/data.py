"""From files to pairs: images are read, prepared into the cache and split; what cannot be used is reported.

Labels are never opened: only what the configuration's patterns or the manifest name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from dlir.data.pair import Pair, Scan
from dlir.errors import ConfigError, GeometryError, ImageError
from dlir.registration.progress import silent
from dlir.training.cache import Cache, Prepared
from dlir.training.config import Source, TrainingConfig
from dlir.training.draws import Draw, Drawn, InterPairs, IntraPairs, ListedPairs, Subject
from dlir.training.subjects import Notice, called, find, held_out

# Sides of a voxel that differ by less, relatively, count as equal.
_SQUARE = 0.01

# Hears of progress: images done and in all.
Prepares = Callable[[int, int], None]


def load_data(
    config: TrainingConfig, data: Path, cache: Cache, notice: Notice, prepares: Prepares = silent
) -> list[Draw]:
    """What pairs are drawn from, one entry for each source.

    data: a folder or a manifest. notice: hears of images and subjects that are left out, and why. Raises ConfigError
    where what is left makes no pairs.
    """
    if data.is_file() and len(config.sources) > 1:
        count = len(config.sources)
        raise ConfigError(f"manifest '{data}' is one source and the configuration has {count}; copy it and leave one")
    found = [find(source, data, notice) for source in config.sources]
    images = dict.fromkeys((f.image, f.mask) for entries in found for entry in entries for f in _scans(entry))
    prepared: dict[tuple[str, str], Prepared] = {}
    for done, (image, mask) in enumerate(images):
        prepares(done, len(images))
        try:
            prepared[image, mask] = cache.prepared(image, mask or None)
        except (ImageError, GeometryError) as error:
            notice(image, str(error))
    draws = [
        _make(source, entries, prepared, cache, config.seed, data, notice)
        for source, entries in zip(config.sources, found, strict=True)
    ]
    for draw in draws:
        if config.augmentation.crop is not None:
            _check_one_grid(draw)
        if config.augmentation.rotate90:
            _check_square(draw)
    if config.patience and not any(draw.held_out() for draw in draws):
        raise ConfigError(
            f"patience {config.patience} needs a validation, and nobody is held out for it; hold some out"
        )
    return draws


def _scans(entry: Pair | Scan) -> tuple[Scan, ...]:
    return (entry,) if isinstance(entry, Scan) else (entry.fixed, entry.moving)


def _make(
    source: Source,
    found: Sequence[Pair | Scan],
    prepared: dict[tuple[str, str], Prepared],
    cache: Cache,
    seed: int,
    data: Path,
    notice: Notice,
) -> Draw:
    if pairs := [entry for entry in found if isinstance(entry, Pair)]:
        return _listed(pairs, prepared, source, seed, data)
    stated = {entry.subject: entry.split for entry in found}
    volumes: dict[str, list[Prepared]] = {}
    for scan in (entry for entry in found if isinstance(entry, Scan)):
        if (scan.image, scan.mask) in prepared:
            volumes.setdefault(scan.subject, []).append(prepared[scan.image, scan.mask])
    subjects = [
        subject
        for name, images in volumes.items()
        if (subject := _subject(name, images, source, cache, notice)) is not None
    ]
    training, validation = _split([s.name for s in subjects], stated, source, seed)
    kept, aside = (tuple(s for s in subjects if s.name in names) for names in (training, validation))
    where = f"of {source.files} under '{data}'" if data.is_dir() else f"in '{data}'"
    if source.pairs == "inter":
        _check_inter(len(kept), len(aside), where)
        return InterPairs(kept, aside)
    _check_training(len(kept), len(aside), f"subjects {where}")
    return IntraPairs(kept, aside, source.largest_motion)


def _split(names: Sequence[str], stated: dict[str, str], source: Source, seed: int) -> tuple[set[str], set[str]]:
    """Names for training and for validation: as a manifest says, or where it says nothing, as the configuration."""
    if any(stated.values()):
        validation = {name for name in names if stated[name] == "validation"}
    else:
        validation = held_out(names, source, seed)
    return set(names) - validation, validation


def _check_training(training: int, validation: int, what: str) -> None:
    if training + validation == 0:
        raise ConfigError(f"no usable {what}; check the data with `dlir data check`")
    if training == 0:
        raise ConfigError(f"all {validation} {what} are held out for validation; leave some for training")


def _check_inter(training: int, validation: int, where: str) -> None:
    if training + validation < 2:
        raise ConfigError(
            f"inter pairs need two subjects, and {training + validation} {where} can be used; add more, or check the "
            "data with `dlir data check`"
        )
    if training < 2 or validation == 1:
        raise ConfigError(
            f"inter pairs need two subjects to train with and two to validate on, and the split {where} leaves "
            f"{training} and {validation}; change it"
        )


def _subject(name: str, volumes: list[Prepared], source: Source, cache: Cache, notice: Notice) -> Subject | None:
    if source.pairs == "inter":
        return Subject(name, tuple(volumes))
    if len(volumes) < 2:
        notice(name, f"subject '{name}' has one usable volume, and pairs are drawn within a subject")
        return None
    if not all(volume.grid.same_as(volumes[0].grid) for volume in volumes[1:]):
        notice(name, f"volumes of subject '{name}' lie on different grids; resample them onto one")
        return None
    first, second = cache.remembered("extremes", [v.image_file for v in volumes], lambda: _extremes(volumes))
    return Subject(name, tuple(volumes), (first, second))


def _extremes(volumes: Sequence[Prepared]) -> list[int]:
    """The two volumes of largest mean difference."""
    images = [volume.image() for volume in volumes]

    def difference(pair: tuple[int, int]) -> float:
        return float((images[pair[0]] - images[pair[1]]).abs().mean())

    first, second = max(combinations(range(len(volumes)), 2), key=difference)
    return [first, second]


def _listed(
    found: Sequence[Pair], prepared: dict[tuple[str, str], Prepared], source: Source, seed: int, data: Path
) -> ListedPairs:
    pairs: list[tuple[str, Drawn]] = []
    stated: dict[str, str] = {}
    for pair in found:
        images = [prepared[scan.image, scan.mask] for scan in _scans(pair) if (scan.image, scan.mask) in prepared]
        if len(images) == 2:
            pairs.append((pair.subject, Drawn(images[0], images[1], called(pair, data))))
            stated[pair.subject] = pair.split
    training, validation = _split(sorted(stated), stated, source, seed)
    groups = [tuple(pair for subject, pair in pairs if subject in names) for names in (training, validation)]
    _check_training(len(groups[0]), len(groups[1]), f"pairs in '{data}'")
    return ListedPairs(*groups)


def _check_one_grid(draw: Draw) -> None:
    """Crops are windows of both images; the volumes of a subject share a grid, so only others are in question."""
    if isinstance(draw, InterPairs):
        raise ConfigError("augmentation.crop needs both images on one grid, which inter pairs have not; leave it out")
    if isinstance(draw, ListedPairs):
        for pair in (*draw.training, *draw.validation):
            if not pair.fixed.grid.same_as(pair.moving.grid):
                raise ConfigError(
                    f"pair '{pair.name}' lies on two different grids, and augmentation.crop needs one; resample the "
                    "images or leave the crop out"
                )


def _check_square(draw: Draw) -> None:
    """Pairs that are turned by 90 degrees in plane keep their voxels' size only where these are square there."""
    for image in draw.images():
        x, y, _ = image.grid.spacing
        if abs(x - y) > _SQUARE * x:
            raise ConfigError(
                f"voxels of image '{image.name}' measure {x:g} x {y:g} mm in plane and cannot be turned; "
                "set rotate90: false"
            )
