"""Memory, time and waiting for data of the presets' training steps, on synthetic images of their real size.

    python Benchmarks/training_memory.py [--presets chest-ct-inter chest-ct-4d]

Every stage runs a few iterations with its preset's own batches and windows, and a validation, in a process of its own,
so that its peak memory is its own. Stages before it are untrained: neither memory nor time depends on the weights.
Prints and keeps results/training_memory.md, and says whether the 32 GB of the paper's machine are enough. A stage for
which this machine's free memory is too little is ended before others must pay, and said to be. Linux; needs the train
extra.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from study import KEPT, machine, peak_bytes

from dlir.evaluation.tables import markdown
from dlir.geometry import Vector3
from dlir.io.writing import write_text
from dlir.training.batch import collate
from dlir.training.cache import Cache
from dlir.training.config import TrainingConfig
from dlir.training.config_file import load_config, preset_file
from dlir.training.data import load_data
from dlir.training.engine import make_fabric, usable_precision
from dlir.training.run_folder import RunFolder, RunOptions
from dlir.training.trainer import Trainer

GIB = 2**30
# Of the machine that the paper's experiments ran on.
PAPER_GIB = 32
# The largest share of a step that may be waiting for data.
MOST_WAITING = 0.1
# Left to whatever else runs here.
SPARED = 2 * GIB
# A loader has up to two batches ready: fewer than this many would come from what was prepared during the first step.
LEAST_BATCHES = 6


@dataclass(frozen=True)
class Images:
    """size: voxels (x, y, z). spacing: mm (x, y, z). volumes: of each subject. lowest, highest: intensities."""

    size: tuple[int, int, int]
    spacing: Vector3
    volumes: int = 2
    lowest: float = -1000.0
    highest: float = 400.0


# As large as what each preset was made for: NLST, DIR-Lab's largest, short-axis cine, and crops around a hippocampus.
IMAGES = {
    "chest-ct-inter": Images((512, 512, 150), (0.7, 0.7, 2.5), volumes=1),
    "chest-ct-4d": Images((512, 512, 120), (1.0, 1.0, 2.5)),
    "cardiac-cine": Images((256, 256, 10), (1.25, 1.25, 8.0), lowest=0.0),
    "hippocampus": Images((36, 52, 36), (1.0, 1.0, 1.0), volumes=1, lowest=0.0),
}
SUBJECTS = 4


def write_images(folder: Path, images: Images) -> None:
    """SUBJECTS folders of smooth random images."""
    generator = torch.Generator().manual_seed(0)
    for subject in range(SUBJECTS):
        (folder / f"subject{subject}").mkdir(parents=True)
        for number in range(images.volumes):
            coarse = torch.rand(1, 1, *(max(2, n // 16) for n in images.size[::-1]), generator=generator)
            smooth = F.interpolate(coarse, images.size[::-1], mode="trilinear")[0, 0].numpy()
            values = images.lowest + (images.highest - images.lowest) * smooth
            image = sitk.GetImageFromArray(values.astype(np.int16))
            image.SetSpacing(images.spacing)
            sitk.WriteImage(image, folder / f"subject{subject}" / f"{number}.mha")


def configuration(preset: str) -> TrainingConfig:
    """The preset with the synthetic images as its only source, half of their subjects held out."""
    config = load_config(preset_file(preset))
    changes = {"files": ["*/*.mha"], "validation": [], "validation_fraction": 0.0, "validation_last": SUBJECTS // 2}
    return config.model_copy(update={"sources": [config.sources[0].model_copy(update=changes)]})


# -- one stage, in a process of its own ---------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """Of one phase. training, loading: peak resident bytes of the process that trains and of the one that loads.

    seconds: of an iteration by the clock. waiting: share of it spent waiting for data. step, load: seconds of the
    processor that the two processes need for an iteration.
    """

    phase: str
    batch: str
    training: int
    loading: int
    seconds: float
    waiting: float
    step: float
    load: float

    @property
    def peak(self) -> float:
        """GiB, at most: what the two processes share counts twice."""
        return (self.training + self.loading) / GIB


class _EnoughError(Exception):
    """Ends a phase after a few iterations."""


def measure(preset: str, phase: int, data: Path, iterations: int, threads: int, limit: int) -> Figures:
    """A few iterations of one phase of a preset. limit: bytes that a process may hold at most."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    multiprocessing.set_start_method(None, force=True)  # the platform's, as when `dlir train` starts its loaders
    torch.set_num_threads(threads)
    config = configuration(preset)
    with tempfile.TemporaryDirectory(dir=data) as scratch:
        folder = RunFolder(Path(scratch))
        options = RunOptions(config, data, data / "cache")
        folder.begin(options)
        draws = load_data(config, data, Cache(options.cache, config.spec), _refuse)
        trainer = Trainer(config, draws, folder, make_fabric("cpu"))
        trainer.state.phase = phase
        settings = trainer.phase.settings
        parts = settings.batch_size // (settings.micro_batch or settings.batch_size)
        count = max(iterations, math.ceil(LEAST_BATCHES / parts))
        clock: list[float] = []
        processor: list[float] = []
        waited: list[float] = []

        def note(name: str, done: int, total: int, figures: dict[str, float]) -> None:
            clock.append(time.perf_counter())
            processor.append(time.process_time())
            waited.append(figures["waiting"])
            if done == count + 1:
                raise _EnoughError

        try:
            trainer.run(note)
        except _EnoughError:
            trainer.validate()
        for loader in multiprocessing.active_children():
            loader.join()  # only of a process that has been waited for is the memory known
        training, start = peak_bytes(), time.process_time()
        collate([trainer.pairs[index] for index in range(settings.batch_size // parts)])
        load = parts * (time.process_time() - start)
    elapsed = clock[-1] - clock[0]
    return Figures(
        trainer.phase.name,
        f"{settings.batch_size}" + (f", {settings.micro_batch} at once" if settings.micro_batch else ""),
        training,
        1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        elapsed / count,
        sum(waited[1:]) / elapsed,
        (processor[-1] - processor[0]) / count,
        load,
    )


def _refuse(what: str, why: str) -> None:
    raise ValueError(f"{what}: {why}")


# -- the whole ----------------------------------------------------------------------------------------


def available() -> int:
    """Bytes of memory that are free, or would be on demand."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def measured(preset: str, folder: Path, iterations: int, threads: int) -> list[Figures | str]:
    """Every phase of a preset, or for one that cannot be run here, why."""
    write_images(folder, IMAGES[preset])
    config = configuration(preset)
    # Prepared beforehand, so that no phase's peak is that of reading images.
    load_data(config, folder, Cache(folder / "cache", config.spec), _refuse)
    count = len(config.training) + (config.fine_tuning is not None)
    context = multiprocessing.get_context("spawn")
    found: list[Figures | str] = []
    for phase in range(count):
        limit = available() - SPARED
        with ProcessPoolExecutor(1, context) as pool:
            try:
                found.append(pool.submit(measure, preset, phase, folder, iterations, threads, limit).result())
            except (RuntimeError, MemoryError) as error:
                if "allocate" not in str(error).lower():
                    raise
                found.append(f"needs more than the {limit / GIB:.1f} GiB that were free here")
        print(f"{preset}  phase {phase + 1}/{count}  {found[-1]}", flush=True)
    return found


def table(figures: dict[str, list[Figures | str]]) -> list[list[str]]:
    """Head and one line per preset and phase."""
    lines = [["preset", "stage", "batch", "training (GiB)", "loading (GiB)", "both (GiB)", "s / iteration", "waiting"]]
    lines[0] += ["processor s, step", "processor s, loading"]
    for preset, phases in figures.items():
        for k, found in enumerate(phases):
            if isinstance(found, str):
                lines.append([preset, f"{k + 1}", found, *["–"] * 7])
                continue
            sizes = (found.training / GIB, found.loading / GIB, found.peak)
            cells = [*(f"{size:.2f}" for size in sizes), f"{found.seconds:.2f}", f"{found.waiting:.1%}"]
            cells += [f"{found.step:.2f}", f"{found.load:.2f}"]
            lines.append([preset, found.phase, found.batch, *cells])
    return lines


def sentences(figures: dict[str, list[Figures | str]]) -> list[str]:
    """Whether the memory is enough and the data come fast enough, from the figures."""
    all_of_them = [(preset, found) for preset, phases in figures.items() for found in phases]
    known = [(preset, found) for preset, found in all_of_them if isinstance(found, Figures)]
    preset, most = max(known, key=lambda item: item[1].peak)
    verdict = f"{PAPER_GIB} GB are {'enough' if most.peak <= PAPER_GIB else 'NOT enough'}"
    if most.peak <= PAPER_GIB and len(known) < len(all_of_them):
        verdict = f"Whether {PAPER_GIB} GB are enough is open, for this machine is too small for some stages"
    slowest, waits = max(known, key=lambda item: item[1].waiting)
    fast = "less" if waits.waiting < MOST_WAITING else "NOT less"
    ratio = max(found.load / found.step for _, found in known)
    return [
        f"{verdict}: of those measured at most {most.peak:.1f} GiB, in {preset}, {most.phase}.",
        f"The step waits for data {fast} than {MOST_WAITING:.0%} of the time: at most {waits.waiting:.1%}, in "
        f"{slowest}, {waits.phase}. Loading takes at most {ratio:.0%} of the processor time of its step: with a core "
        f"of its own, one loader {'keeps' if ratio < 1 else 'does NOT keep'} ahead.",
    ]


def keep(figures: dict[str, list[Figures | str]], iterations: int) -> None:
    """Prints and writes the results so far."""
    sizes = "; ".join(
        f"{preset} {'x'.join(map(str, IMAGES[preset].size))} at {'x'.join(f'{s:g}' for s in IMAGES[preset].spacing)} mm"
        for preset in figures
    )
    notes = [
        *sentences(figures),
        f"Synthetic images: {sizes}. Each stage ran {iterations} iterations or more after a first one, and a "
        f"validation, with its preset's own batches, in {_precision()}, with one process that loads. Peaks of resident "
        "memory; what the two processes share counts in both. They shared the cores with whatever else ran, which "
        "tells in the clock's time and hardly in the processor's.",
        machine(),
    ]
    text = "\n\n".join(["# training_memory", *notes, markdown(table(figures))]) + "\n"
    KEPT.mkdir(exist_ok=True)
    write_text(KEPT / "training_memory.md", text)
    print(text)


def _precision() -> str:
    """Of the convolutions, where a preset asks for bfloat16."""
    return str(usable_precision("bfloat16", torch.device("cpu"))).removeprefix("torch.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--iterations", type=int, default=2, help="measured, of each stage")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = {}
    for preset in options.presets:
        with tempfile.TemporaryDirectory() as folder:
            figures[preset] = measured(preset, Path(folder), options.iterations, options.threads)
        keep(figures, options.iterations)


if __name__ == "__main__":
    main()
