"""Any similarity by its name: as a function of two images, and of one fixed image and many warped ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from dlir.losses.choices import WINDOW, Similarity
from dlir.losses.information import FixedIntensities, mutual_information
from dlir.losses.self_similarity import FixedDescriptors, mind_ssc
from dlir.losses.similarity import local_ncc, ncc

# Of a fixed and a warped image (B, C, z, y, x) under a mask of weights (B, 1, z, y, x) or none: (B,), higher for more
# alike.
Measure = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def similarity_of(name: Similarity | str, window: int = WINDOW) -> Measure:
    """The similarity of that name; of several channels their mean. Gradients reach both images.

    window: of the local correlation, voxels; the others have none. Raises ValueError for another name.
    """
    return partial(_mean_of_channels, _FUNCTIONS[Similarity(name)](window))


class Compared:
    """A fixed image that any number of warped ones are compared with; what can be known of it is computed once.

    It gives the values of `similarity_of`. Gradients reach the warped image only.
    """

    def __init__(self, name: Similarity | str, fixed: Tensor, window: int = WINDOW) -> None:
        """fixed: (B, C, z, y, x). name, window: see `similarity_of`."""
        prepare = _PREPARED[Similarity(name)](window)
        self._measure: Callable[[Tensor, Tensor | None], Tensor] = prepare(_apart(fixed.detach()))

    def to(self, warped: Tensor, mask: Tensor | None = None) -> Tensor:
        """How alike a warped image (B, C, z, y, x) is, where the mask's weights (B, 1, z, y, x) say so: (B,)."""
        channels = warped.shape[1]
        found = self._measure(_apart(warped), _repeated(mask, channels))
        return found if channels == 1 else found.reshape(-1, channels).mean(1)


_FUNCTIONS: dict[Similarity, Callable[[int], Measure]] = {
    Similarity.ncc: lambda _: ncc,
    Similarity.local_ncc: lambda window: partial(local_ncc, window=window),
    Similarity.mutual_information: lambda _: mutual_information,
    Similarity.mind_ssc: lambda _: mind_ssc,
}
_PREPARED: dict[Similarity, Callable[[int], Callable[[Tensor], Callable[[Tensor, Tensor | None], Tensor]]]] = {
    Similarity.ncc: lambda _: lambda fixed: partial(ncc, fixed),
    Similarity.local_ncc: lambda window: lambda fixed: partial(local_ncc, fixed, window=window),
    Similarity.mutual_information: lambda _: FixedIntensities,
    Similarity.mind_ssc: lambda _: FixedDescriptors,
}


def _mean_of_channels(measure: Measure, fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    channels = fixed.shape[1]
    found = measure(_apart(fixed), _apart(warped), _repeated(mask, channels))
    return found if channels == 1 else found.reshape(-1, channels).mean(1)


def _apart(image: Tensor) -> Tensor:
    """Each channel as an image of its own: (B * C, 1, z, y, x)."""
    return image.flatten(0, 1)[:, None]


def _repeated(mask: Tensor | None, channels: int) -> Tensor | None:
    return mask if mask is None or channels == 1 else mask.repeat_interleave(channels, 0)
