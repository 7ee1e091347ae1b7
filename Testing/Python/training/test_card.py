"""What goes along with a model says nothing of the persons that it was trained on."""

from __future__ import annotations

from dlir.training.card import passed_on


def test_patterns_stay_and_persons_do_not() -> None:
    files = ["acdc/patient0[0-7]?/*.nii.gz", "SMITH_JOHN/ed.nii.gz", "a[[]1]/es.nii.gz", "ct.nii.gz"]
    validation = ["patient07?", "SMITH_JANE"]
    config = {"seed": 1, "sources": [{"pairs": "intra", "files": files, "validation": validation}]}
    assert passed_on(config) == {
        "seed": 1,
        "sources": [
            {
                "pairs": "intra",
                "files": ["acdc/patient0[0-7]?/*.nii.gz", "ct.nii.gz", "(2 files named one by one)"],
                "validation": ["patient07?", "(1 subjects named one by one)"],
            }
        ],
    }
    assert config["sources"][0]["files"] is files  # type: ignore[index]


def test_a_configuration_that_names_nobody_is_told_whole() -> None:
    config = {"sources": [{"files": ["**/*.nrrd"], "validation": []}]}
    assert passed_on(config) == config
