"""Affine and B-spline transforms, their composition, derivatives, inverse, files and resampling."""

# Coefficients within this fraction of the grid spacing along every grid axis give a diffeomorphism
# (Choi and Lee 2000: 1/2.479 in three dimensions).
INJECTIVITY_BOUND = 0.4
