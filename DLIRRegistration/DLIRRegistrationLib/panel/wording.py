"""Messages of the core, which name options of the command line and keys of files, in the words of the panel."""

from __future__ import annotations

from slicer.i18n import tr as _

from dlir.registration.choices import NO_MODEL
from DLIRRegistrationLib.panel.choices import Device, Kind, Start, no_model


def in_panel_words(message: str) -> str:
    """The message with every option as the panel calls it, in quotation marks."""
    for option, label in _labels().items():
        message = message.replace(option, f"“{label}”")
    for said, meant in _advice().items():
        message = message.replace(said, meant)
    return message


def step_in_words(step: str) -> str:
    """A step of the progress, as a clinician would call it; what has no other name keeps its own."""
    place, colon, own = step.rpartition(": ")
    words = f"{place}{colon}{_steps().get(own, own)}"
    return words[:1].upper() + words[1:]


def _steps() -> dict[str, str]:
    return {
        "reading": _("reading the images"),
        "handing over": _("handing over the images"),
        "choosing model": _("choosing a model"),
        "loading model": _("loading the model"),
        "preprocess": _("preparing the images"),
        "prepare": _("preparing the images"),
        "preparing": _("preparing the images"),
        "networks": _("aligning"),
        "compose": _("putting the steps together"),
        "resample": _("warping the moving image"),
        "resampling": _("warping the moving image"),
        "jacobian": _("looking for folds"),
        "labels": _("carrying segmentations over"),
        "figures": _("measuring the result"),
        "judging": _("judging the result"),
        "error map": _("estimating where it may be wrong"),
        "writing": _("handing over the result"),
        "nodes": _("showing the result"),
    }


def _labels() -> dict[str, str]:
    """What each option is called in the panel, by how messages name it."""
    return {
        **{f"--initialize {start.value}": _("Start from: {choice}").format(choice=start.label()) for start in Start},
        **{f"--device {device.value}": _("Device: {choice}").format(choice=device.label()) for device in Device},
        **{f"--kind {kind.value}": _("Kind: {choice}").format(choice=kind.label()) for kind in Kind},
        f"--model {NO_MODEL}": _("Model: {choice}").format(choice=no_model()),
        "--initial-transform": _("Initial transform"),
        "--initialize": _("Start from"),
        "--moving-landmarks": _("Carry over > Landmarks"),
        "--fixed-landmarks": _("Measure against > Landmarks"),
        "--moving-label": _("Carry over > Segmentations"),
        "--fixed-label": _("Measure against > Segmentation"),
        "--model": _("Model"),
        "--refine": _("Refinement"),
        "--kind": _("Kind"),
    }


def _advice() -> dict[str, str]:
    """What to do in Slicer, by what the core advises where there are only files."""
    return {
        "is its orientation what its header says?": _(
            "do the letters at the edges of the views (R L A P S I) fit the anatomy in both images? If they do, the "
            "patient lay so, and all is well; if not, the file says it wrongly: export it anew."
        ),
        "are its voxels in the order that its header says?": _(
            "do the letters at the edges of the views (R L A P S I) fit the anatomy in both images? If not, the file "
            "says it wrongly: export it anew."
        ),
        "set rotate90: false": _(
            "choose another preset, or a file of your own with “rotate90: false”: this one learns from images turned "
            "by a quarter, which needs square pixels"
        ),
        "resample the image onto a straight grid": _("harden its transforms in Data, or resample it by Crop Volume"),
    }
