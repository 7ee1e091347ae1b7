"""The pair that comes with DLIR, to try it with."""

from __future__ import annotations

from dlir.errors import ImageError

_FILES = {
    "fixed": "fixed_ed.nrrd",
    "moving": "moving_es.nrrd",
    "fixed_label": "fixed_ed_label.nrrd",
    "moving_label": "moving_es_label.nrrd",
}


def sample_pair() -> dict[str, str]:
    """The files of one heart at end-diastole (fixed) and end-systole (moving), by what `register` calls them.

    >>> import dlir
    >>> sorted(dlir.sample_pair())
    ['fixed', 'fixed_label', 'moving', 'moving_label']

    Raises ImageError where one is missing.
    """
    from dlir.model.catalogue import resource_folder

    files = {role: resource_folder("SampleData") / name for role, name in _FILES.items()}
    for path in files.values():
        if not path.is_file():
            raise ImageError(
                f"the sample image {path.name} is not beside this DLIR; install DLIR from its wheel or a clone, or "
                "give dlir register images of your own"
            )
    return {role: str(path) for role, path in files.items()}
