"""Reading and writing of files: images, labels, masks, landmarks and a run's outputs. Frame: LPS, mm."""

from dlir.io.points import Landmarks, read_landmarks, write_landmarks
from dlir.io.reading import Volume, count_phases, read_grid, read_image, read_label, read_mask
from dlir.io.writing import OutputFolder, replacing, write_image, write_json, write_text

__all__ = [
    "Landmarks",
    "OutputFolder",
    "Volume",
    "count_phases",
    "read_grid",
    "read_image",
    "read_label",
    "read_landmarks",
    "read_mask",
    "replacing",
    "write_image",
    "write_json",
    "write_landmarks",
    "write_text",
]
