"""DLIR: one-shot affine and B-spline registration of medical volumes with trained networks.

    import dlir

    result = dlir.register("fixed.nii.gz", "moving.nii.gz")

Importing this package imports nothing heavy; torch and SimpleITK come in with what needs them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlir.api import Model, Result, apply, invert, load_model, register, register_many, sample_pair
    from dlir.commands import evaluate, train
    from dlir.errors import DLIRError
    from dlir.geometry import ImageGrid
    from dlir.io import Volume

__version__ = "0.2.0"

__all__ = [
    "DLIRError",
    "ImageGrid",
    "Model",
    "Result",
    "Volume",
    "__version__",
    "apply",
    "evaluate",
    "invert",
    "load_model",
    "register",
    "register_many",
    "sample_pair",
    "train",
]

_MODULES = {
    "dlir.api": ("Model", "Result", "apply", "invert", "load_model", "register", "register_many", "sample_pair"),
    "dlir.commands": ("evaluate", "train"),
    "dlir.errors": ("DLIRError",),
    "dlir.geometry": ("ImageGrid",),
    "dlir.io": ("Volume",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'dlir' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
