"""The Slicer side of DLIR: MRML scenes, display and processes around the core `dlir`, which knows nothing of Slicer.

Importing this package imports nothing else. Frames: RAS here, LPS in `dlir`; `frames` converts.
"""
