"""Scenes and scripts name the command line module's parameters: those it had are still there and mean the same."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from cli_runs import SOURCE

# The model was cardiac-cine, which auto takes for the images it was made for, and a text: any is still taken.
# Kind, name, flag or index, channel, default, choices, file extensions and the parameter it refers to, of DLIR 0.1.
PARAMETERS = """
image fixed 0 input - - - -
image moving 1 input - - - -
string-enumeration model --model - auto auto|cardiac-cine - -
image warped --warped output - - - moving
transform transform --transform output - - .h5 moving
image jacobian --jacobian output - - - fixed
image/label warpedLabels --warpedLabels output - - - moving
file report --report output - - .json -
image/label movingLabels --movingLabels input - - - -
image/label fixedLabels --fixedLabels input - - - -
image/label fixedMask --fixedMask input - - - -
image/label movingMask --movingMask input - - - -
transform initialTransform --initialTransform input - - .h5 -
string-enumeration initialize --initialize - auto centers|scanner - -
string-enumeration device --device - auto auto|cpu|cuda|mps - -
"""


def row(parameter: ElementTree.Element) -> list[str]:
    kind = parameter.tag + (f"/{parameter.get('type')}" if parameter.get("type") else "")
    texts = [(parameter.findtext(tag) or "").strip() for tag in ("name", "index", "longflag", "channel", "default")]
    name, index, flag, channel, default = texts
    choices = "|".join(element.text or "" for element in parameter.findall("element"))
    found = [kind, name, index or flag, channel, default, choices]
    return [value or "-" for value in (*found, parameter.get("fileExtensions"), parameter.get("reference"))]


FOUND = {
    item[1]: item
    for group in ElementTree.parse(SOURCE / "DLIRRegister" / "DLIRRegister.xml").getroot().findall("parameters")
    for item in map(row, group)
    if item[1] != "-"
}


@pytest.mark.parametrize("line", PARAMETERS.strip().splitlines(), ids=lambda line: line.split()[1])
def test_the_parameter_is_there_and_means_the_same(line: str) -> None:
    former = line.split()
    found = FOUND[former[1]]
    assert set(former[5].split("|")) <= set(found[5].split("|"))
    assert [*found[:5], *found[6:]] == [*former[:5], *former[6:]]


def test_no_volume_has_come_before_those_that_are_told_by_their_place() -> None:
    assert sorted((item[2], name) for name, item in FOUND.items() if item[2].isdigit()) == [
        ("0", "fixed"),
        ("1", "moving"),
    ]
