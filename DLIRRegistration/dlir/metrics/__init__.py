"""How well two images, labels or sets of points agree, and whether a deformation folds (§4)."""
