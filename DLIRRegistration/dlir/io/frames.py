"""The other frame that files may be in: what is RAS there becomes LPS as it is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Times points or vectors (..., 3) in the one frame, these in the other.
RAS_TO_LPS: NDArray[np.float64] = np.array([-1.0, -1.0, 1.0])
