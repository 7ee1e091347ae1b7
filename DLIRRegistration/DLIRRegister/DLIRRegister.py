#!/usr/bin/env python-real
"""Registration as a command line module of Slicer: for batches, and for running in the background from any module.

    python-real DLIRRegister.py --warped warped.nrrd --transform transform.h5 fixed.nrrd moving.nrrd

DLIRRegister.xml beside this file describes the same parameters to Slicer. Files are in LPS mm, as Slicer writes and
reads them. Errors are one line on stderr and the exit code is then 2, 130 after an interrupt; every output is written
or none.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dlir.registration.request import RegistrationRequest

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

# The outputs: our parameter, the name that the job's report has for it, and the only suffix it may have.
OUTPUTS = {
    "warped": ("warped", ".nrrd"),
    "transform": ("transform", ".h5"),
    "jacobian": ("jacobian", ".nrrd"),
    "errorMap": ("error_map", ".nrrd"),
    "warpedLabels": ("warped_label", ".nrrd"),
    "report": ("report", ".json"),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"error: {message}; see --help\n")


def make_parser() -> Parser:
    from dlir.registration.choices import DEFAULT_MODEL, DEVICES, INITIALIZATIONS, KINDS, Kind

    parser = Parser(
        prog="DLIRRegister",
        description="Register a moving to a fixed volume with a trained network, or by optimisation.",
    )
    parser.add_argument("fixed", help="volume that stays")
    parser.add_argument("moving", help="volume that is brought onto the fixed one")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or file of the model, auto or none")
    parser.add_argument("--modelFile", help="file of a model, in the place of --model")
    parser.add_argument("--refine", help="optimise the result for this pair: 10s, 50it, converged or off")
    parser.add_argument("--kind", choices=KINDS, default=Kind.deformable.value, help="how far the transform may go")
    parser.add_argument("--fixedMask", help="where in the fixed volume the report's figures count")
    parser.add_argument("--movingMask", help="where in the moving volume they count")
    parser.add_argument("--movingLabels", help="labels of the moving volume, to be propagated")
    parser.add_argument("--fixedLabels", help="labels of the fixed volume, to score the result by")
    parser.add_argument("--initialTransform", help="transform to start from")
    parser.add_argument("--initialize", choices=INITIALIZATIONS, default=INITIALIZATIONS[0], help="start without one")
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0], help="processor")
    parser.add_argument("--threads", type=int, default="0", help="threads of the CPU; 0 takes the cores there are")
    for name, (_, suffix) in OUTPUTS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"output file (*{suffix})")
    # What Slicer itself adds for parameters that are neither nodes nor files: see `returned`.
    parser.add_argument("--returnparameterfile", type=Path, help=argparse.SUPPRESS)
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked as far as that goes without reading a file."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    chosen = {name: path for name in OUTPUTS if (path := getattr(options, name)) is not None}
    if not chosen:
        parser.error("choose at least one output")
    for name, path in chosen.items():
        suffix = OUTPUTS[name][1]
        if path.suffix != suffix:
            parser.error(f"--{name}: the name of '{path}' must end in {suffix}")
        if not path.parent.is_dir():
            parser.error(f"--{name}: the folder of '{path}' does not exist")
    if options.warpedLabels and not options.movingLabels:
        parser.error("--warpedLabels needs --movingLabels")
    if options.fixedLabels and not options.movingLabels:
        parser.error("--fixedLabels needs --movingLabels to compare with")
    return options


def find_dlir() -> None:
    """Make `dlir` importable: it lies beside this file's folder in the sources, and with the modules when installed."""
    above = Path(__file__).resolve().parents[1]
    for folder in (above / "qt-scripted-modules", above):
        if (folder / "dlir").is_dir():
            sys.path.insert(0, str(folder))
            return


def request_of(options: argparse.Namespace, folder: Path) -> RegistrationRequest:
    from dlir.registration.request import Outputs, RegistrationRequest

    return RegistrationRequest(
        options.fixed,
        options.moving,
        Outputs(str(folder)),
        model=options.modelFile or options.model,
        device=options.device,
        refine=options.refine or None,
        kind=options.kind,
        initialize=None if options.initialTransform else options.initialize,
        initial_transform=options.initialTransform or None,
        fixed_mask=options.fixedMask or None,
        moving_mask=options.movingMask or None,
        moving_labels=(options.movingLabels,) if options.movingLabels else (),
        fixed_labels=(options.fixedLabels,) if options.fixedLabels else (),
        error_map=options.errorMap is not None,
    )


def returned(report: dict[str, Any]) -> str:
    """The parameters without a file or node, one on a line, as Slicer reads them."""
    verdict = report["verdict"]
    values = {"verdict": verdict["level"], "verdictReason": verdict["reason"], "usedModel": report["model"]["name"]}
    return "".join(f"{name} = {' '.join(value.split())}\n" for name, value in values.items())


def tell(step: str, fraction: float) -> None:
    """Progress, as Slicer reads it from what a command line module prints."""
    print(f"<filter-comment>{step}</filter-comment><filter-progress>{fraction:.3f}</filter-progress>", flush=True)


def warn(message: str) -> None:
    """What the user should know although the run goes on."""
    print(message, file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> None:
    """Register and write the chosen outputs. Raises the DLIRErrors of its parts; nothing is written then."""
    from dlir.errors import notes_to
    from dlir.registration.threads import use_threads

    with notes_to(warn):
        use_threads(options.threads or None)  # before the others import what reads it
    from dlir.io import replacing, write_json
    from dlir.io.formats.segments import segments_of_layer
    from dlir.io.source import parse_source
    from dlir.registration.pipeline import run as register

    with notes_to(warn), tempfile.TemporaryDirectory(prefix="dlir-register-") as work:
        if options.movingLabels:
            segments_of_layer(parse_source(options.movingLabels, "moving label"))
        results = Path(work) / "results"
        report = register(request_of(options, results), progress=tell, notify=warn).report
        names = report["outputs"]
        written = {key: getattr(options, name).name for name, (key, _) in OUTPUTS.items() if getattr(options, name)}
        write_json(results / names["report"], report | {"outputs": written})
        chosen = {getattr(options, name): names[key] for name, (key, _) in OUTPUTS.items() if getattr(options, name)}
        with ExitStack() as stack:  # all are whole beside their places before the first takes its place
            for target, name in chosen.items():
                shutil.copyfile(results / name, stack.enter_context(replacing(target)))
            if options.returnparameterfile:
                stack.enter_context(replacing(options.returnparameterfile)).write_text(returned(report), "utf-8")
    tell("done", 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, interrupt)
    if list(sys.argv[1:] if arguments is None else arguments) == ["--xml"]:  # as programs ask that may run it
        print(Path(__file__).with_suffix(".xml").read_text("utf-8"), end="")
        return 0
    find_dlir()
    try:
        from dlir.errors import DLIRError

        options = parse(arguments)
    except ModuleNotFoundError:
        return fail(f"the package dlir is not beside '{__file__}'; install the extension DLIR again", EXIT_ERROR)
    try:
        run(options)
    except DLIRError as error:
        return fail(str(error), EXIT_ERROR)
    except ModuleNotFoundError as error:
        advice = "open the module DLIR Registration in Slicer and press Install, or use pip"
        return fail(f"the Python package '{error.name}' is not installed; {advice}", EXIT_ERROR)
    except KeyboardInterrupt:
        return fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    return 0


def interrupt(signum: int, frame: FrameType | None) -> None:
    """An end that Slicer or a batch system asks for cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def fail(message: str, code: int) -> int:
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
