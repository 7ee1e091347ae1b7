"""The similarities that one can train and register for: the one list for configurations, commands, panel and docs.

Standard library only.
"""

from __future__ import annotations

from enum import Enum


class Similarity(str, Enum):
    """What makes two images alike.

    ncc: correlation over the whole image (§2.4). local_ncc: correlation in windows, mean over the image.
    mutual_information: how well one image's intensities tell the other's. mind_ssc: alike surroundings of each voxel,
    whatever the contrast.
    """

    ncc = "ncc"
    local_ncc = "local_ncc"
    mutual_information = "mutual_information"
    mind_ssc = "mind_ssc"

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_WORDS = {
    Similarity.ncc: "NCC",
    Similarity.local_ncc: "local NCC",
    Similarity.mutual_information: "mutual information",
    Similarity.mind_ssc: "MIND-SSC",
}
# Edge of the window of the local correlation, voxels.
WINDOW = 7
SIMILARITIES = tuple(similarity.value for similarity in Similarity)
