"""Transforms found for one pair by optimisation, without a network: affine, then B-splines coarse to fine."""
