"""What NRRD and MetaImage headers say and ITK passes over: lengths in another unit than mm, or none, and times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_MM = {
    1.0: ("mm", "millimeter", "millimetre"),
    1e-3: ("um", "µm", "μm", "micron", "micrometer", "micrometre"),
    1e-6: ("nm", "nanometer", "nanometre"),
    10.0: ("cm", "centimeter", "centimetre"),
    1000.0: ("m", "meter", "metre"),
}
_KNOWN = {name + plural: factor for factor, names in _MM.items() for name in names for plural in ("", "s")}
# Along time, or nothing that is said.
_NO_LENGTHS = ("", "s", "ms", "sec", "second", "seconds", "?", "???")
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3}
_LONGEST_HEADER = 4096


def unit_of(path: Path) -> tuple[str, float] | None:
    """The unit of the lengths in a header and what it is in mm; None where the header states no voxel size.

    Files of other formats than NRRD and MetaImage are taken to be in mm. Raises ValueError, whose text is the unit, for
    one that is unknown, and OSError.
    """
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        fields = _fields(path, ":")
        directions, spacings = fields.get("spacedirections", ""), fields.get("spacings", "").split()
        stated = "(" in directions or sum(map(_is_number, spacings)) >= 3
        units: Iterable[str] = re.findall('"([^"]*)"', fields.get("spaceunits") or fields.get("units", ""))
    elif name.endswith((".mha", ".mhd")):
        fields = _fields(path, "=")
        stated = bool({"elementspacing", "elementsize"} & fields.keys())
        units = [fields.get("distanceunits", "")]
    else:
        return "mm", 1.0
    found = {unit.strip().lower() for unit in units} - set(_NO_LENGTHS)
    unit = " and ".join(sorted(found)) or "mm"
    if unit not in _KNOWN:
        raise ValueError(unit)
    return (unit, _KNOWN[unit]) if stated else None


def nrrd_fields(path: Path) -> Mapping[str, str]:
    """What an NRRD header says: names, in small letters without blanks, and values. Raises OSError."""
    return _fields(path, ":")


def sequence_times(path: Path) -> tuple[float, ...] | None:
    """When each item of a sequence was acquired, in s from the first, as Slicer writes it into an NRRD file; None where
    the file is none, or gives no numbers, or no unit of time. Raises OSError.
    """
    if not path.name.lower().endswith((".nrrd", ".nhdr")):
        return None
    fields = _fields(path, ":")
    axis = next((axis for axis in range(4) if f"axis{axis}indexvalues" in fields), None)
    units = re.findall('"([^"]*)"', fields.get("units", ""))
    factor = _SECONDS.get(units[axis].strip().lower()) if axis is not None and axis < len(units) else None
    values = [] if axis is None else fields[f"axis{axis}indexvalues"].removeprefix("=").split()
    if factor is None or not values or not all(map(_is_number, values)):
        return None
    return tuple(factor * (float(value) - float(values[0])) for value in values)


def _fields(path: Path, sign: str) -> Mapping[str, str]:
    """Names, in small letters without blanks, and values, up to the voxels."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_LONGEST_HEADER):
            line = file.readline(1 << 16)
            if not line.strip():
                break
            name, _, value = line.decode("utf-8", "replace").partition(sign)
            fields[name.replace(" ", "").lower()] = value.strip()
            if name.strip() == "ElementDataFile":
                break
    return fields


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
