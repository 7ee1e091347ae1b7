"""Whether two images that lie on each other have one contrast: what is brighter in one is brighter in the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Into so many parts of equally many voxels an image is divided by its intensities.
_PARTS = 32

Values = NDArray[np.float64]


def turning(fixed: Values, moving: Values) -> float:
    """Part of the variance that a curve of the other image's intensities explains but a rising one does not.

    fixed, moving: (N,), where both show something. The larger figure of the two images, each by the other; less what
    chance makes of it. 0 where one is the other through any rising curve.
    """
    return max(_turning(fixed, moving), _turning(moving, fixed)) if fixed.size else 0.0


def _turning(explained: Values, by: Values) -> float:
    edges = np.unique(np.quantile(by, np.linspace(0, 1, _PARTS + 1)))
    part = np.searchsorted(edges[1:-1], by, side="right")
    counts = np.bincount(part, minlength=1)
    part, counts = np.cumsum(counts > 0)[part] - 1, counts[counts > 0]
    means = np.bincount(part, explained) / counts
    spread = float((counts * (means - rising(means, counts)) ** 2).sum())
    whole = float(((explained - explained.mean()) ** 2).sum())
    return spread / whole - len(counts) / explained.size if whole else 0.0


def rising(values: Values, weights: NDArray[np.int_]) -> Values:
    """The values (N,) that never fall and are nearest by weighted squares: neighbours that fall share their mean
    (Ayer et al. 1955).
    """
    pools = list[tuple[float, int, int]]()  # mean, weight, values
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, m, p), (b, n, q) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n, p + q)]
    means, _, lengths = zip(*pools, strict=True)
    return np.repeat(np.array(means), lengths)
