"""The Slicer side of DLIR: everything between MRML nodes and the worker process."""
