"""No registration: what there was before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlir.evaluation.methods.base import Registered
from dlir.registration.loading import Loaded


class Identity:
    """Leaves the moving image where every method starts from."""

    name = "before"
    settings: Mapping[str, Any] = {"method": "identity"}

    def register(self, pair: Loaded) -> Registered:
        return Registered(pair.start, None)
