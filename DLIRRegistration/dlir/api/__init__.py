"""Registration from Python: images in whichever form they are at hand, results as SimpleITK images and transforms.

    import dlir

    result = dlir.register("ed.nii.gz", "es.nii.gz", moving_label="es_label.nii.gz")
    print(result.verdict.level, result.verdict.reason)

The command line makes the same request of the same function, `dlir.registration.pipeline`, as the worker does. torch is
imported when something is registered for the first time, and what that loads stays in memory.
"""

from dlir.api.applying import Inverse, apply, invert
from dlir.api.inputs import ImageLike, LabelLike, PointsLike, TransformLike
from dlir.api.many import register_many
from dlir.api.registering import Model, load_model, register
from dlir.api.result import Arrays, Result
from dlir.api.sample import sample_pair

__all__ = [
    "Arrays",
    "ImageLike",
    "Inverse",
    "LabelLike",
    "Model",
    "PointsLike",
    "Result",
    "TransformLike",
    "apply",
    "invert",
    "load_model",
    "register",
    "register_many",
    "sample_pair",
]
