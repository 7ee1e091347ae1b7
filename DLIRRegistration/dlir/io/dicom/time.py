"""In which order the images at one slice position were acquired, from the clocks in their headers."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError

# The first that differs decides.
CLOCKS = (
    "temporal position",
    "frame reference time",
    "acquisition time",
    "trigger time",
    "acquisition number",
    "content time",
    "instance number",
)
_TEMPORAL, _FRAME, _ACQUIRED, _TRIGGER, _NUMBER, _CONTENT, _INSTANCE = range(len(CLOCKS))

# Trigger times of a cine are as even as its frames; those of one image a heartbeat jitter by some milliseconds.
_SHORTEST_FRAME_MS = 10
_DAY, _LONGEST = 86_400, 64_800  # seconds; nobody is imaged for eighteen hours
_UNEVEN = 2  # longest step of even trigger times, in shortest ones


def order_in_time(clocks: NDArray[np.float64], name: str) -> NDArray[np.intp]:
    """(positions, frames): indices of the frames at each slice position, in order of acquisition.

    clocks: (positions, frames, len(CLOCKS)), NaN where a file lacks one. name: what messages call the images.
    Raises ImageError for clocks that contradict each other and for images that none tells apart.
    """
    if clocks.shape[1] == 1:
        return np.zeros(clocks.shape[:2], np.intp)
    clocks = _over_midnight(clocks)
    deciding = _deciding(clocks, name)
    _require_same_time_points(clocks, name)
    # Copies of an image may have been written at different times, but keep its number.
    telling = [c for c in deciding if c != _CONTENT or _INSTANCE not in deciding]
    if not _tells_apart(clocks, telling):
        raise ImageError(
            f"{name} has files at one slice position with the same trigger time and instance number, or "
            "none; remove copies, or export the original series"
        )
    return np.array([np.lexsort(frames[:, deciding[::-1]].T) for frames in clocks])


def seconds_of(clocks: NDArray[np.float64]) -> tuple[float, ...] | None:
    """When each frame was acquired, in s from the first one: the median over the slice positions.

    clocks: (positions, frames, len(CLOCKS)), in order of acquisition. By the first of trigger, frame reference and
    acquisition time that rises from frame to frame; None where none does.
    """
    clocks = _over_midnight(clocks)
    for clock, unit in ((_TRIGGER, 1e-3), (_FRAME, 1e-3), (_ACQUIRED, 1.0)):
        since = unit * np.median(clocks[..., clock] - clocks[:, :1, clock], axis=0)
        if clocks.shape[1] > 1 and (np.diff(since) > 0).all():  # not where any is NaN
            return tuple(since.round(6).tolist())
    return None


def _over_midnight(clocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same clocks with times after midnight behind those before it where no date, or one for all, tells of it."""
    clocks = clocks.copy()
    for c in (_ACQUIRED, _CONTENT):
        moments = clocks[..., c]
        if np.ptp(moments) > _LONGEST and np.ptp(moments // _DAY) == 0:
            moments[moments % _DAY < _DAY / 2] += _DAY
    return clocks


def _require_same_time_points(clocks: NDArray[np.float64], name: str) -> None:
    """Raises ImageError where some positions have numbered time points that others lack."""
    numbers = clocks[..., _TEMPORAL]
    if np.isnan(numbers).any() or not _tells_apart(clocks, [_TEMPORAL]):
        return
    for here in numbers[1:]:  # a series of its own for each slice may go on counting, and share no number
        if 0 < np.isin(here, numbers[0]).sum() < len(here):
            raise ImageError(f"{name} lacks time points at some slice positions; export the complete series")


def _deciding(clocks: NDArray[np.float64], name: str) -> list[int]:
    """Indices of the clocks by which to sort, the first one first. A clock that some files lack cannot order them."""
    known = [c for c in range(len(CLOCKS)) if not np.isnan(clocks[..., c]).any()]
    strong = [c for c in (_TEMPORAL, _FRAME, _ACQUIRED) if c in known]

    def require_agreement(first: list[int], other: int) -> None:
        if _disagree(clocks, first, other):
            raise ImageError(
                f"{name} has time points that {CLOCKS[first[-1]]} and {CLOCKS[other]} put into different orders; "
                "find out which is right and give each time point as a folder or file of its own"
            )

    for i, c in enumerate(strong):
        for other in strong[i + 1 :]:
            require_agreement([c], other)
    if _TRIGGER not in known:
        decided = strong
    elif _is_cine(clocks):
        # Retrospective gating may fill a phase of the heart late: then the phases count, where they are known twice.
        rivals = [c for c in strong if _disagree(clocks, [c], _TRIGGER)]
        witnesses = [c for c in (_TEMPORAL, _INSTANCE) if c in known and _tells_apart(clocks, [c])]
        if rivals == [_ACQUIRED] and any(not _disagree(clocks, [c], _TRIGGER) for c in witnesses):
            known.remove(_ACQUIRED)
        else:
            for c in rivals:
                require_agreement([c], _TRIGGER)
        decided = [c for c in known if c <= _TRIGGER]
    else:
        decided = [*strong, _TRIGGER]
        if not _tells_apart(clocks, strong):
            for c in known[known.index(_TRIGGER) + 1 :]:
                require_agreement(decided, c)
    if _CONTENT in known and not _tells_apart(clocks, decided):
        for c in (_NUMBER, _INSTANCE):
            if c in known:
                require_agreement([*decided, c], _CONTENT)
    return known


def _disagree(clocks: NDArray[np.float64], first: list[int], other: int) -> bool:
    """Whether two frames at one position come in one order by the clocks `first` and in another by `other`."""
    for frames in clocks:
        rank = np.unique(frames[:, first], axis=0, return_inverse=True)[1].ravel()
        groups = [frames[rank == r, other] for r in range(rank.max() + 1)]  # whose members `first` leaves free
        if any(before.max() > after.min() for before, after in itertools.pairwise(groups)):
            return True
    return False


def _tells_apart(clocks: NDArray[np.float64], which: list[int]) -> bool:
    return bool(which) and all(len(np.unique(frames[:, which], axis=0)) == len(frames) for frames in clocks)


def _is_cine(clocks: NDArray[np.float64]) -> bool:
    steps = np.diff(np.sort(clocks[..., _TRIGGER], axis=1), axis=1)
    return bool(steps.mean() >= _SHORTEST_FRAME_MS and (steps.max(axis=1) <= _UNEVEN * steps.min(axis=1)).all())
