"""DLIR: one-shot affine and B-spline registration of medical volumes with trained networks.

Importing this package imports nothing heavy; torch and SimpleITK come in with the modules that need them.
"""

__version__ = "0.2.0"
