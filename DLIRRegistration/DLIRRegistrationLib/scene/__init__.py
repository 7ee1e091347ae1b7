"""MRML nodes as arrays, grids, transforms and points, and back; only `frames` turns RAS into LPS."""
