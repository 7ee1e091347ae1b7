"""The Slicer side of DLIR: MRML scenes, display and processes around the core `dlir`, which knows nothing of Slicer.

`scene` lies below `registration` and `display`, the `worker` beside them; the `logic` is above, the `panel` on top.
Importing this package imports nothing else. Frames: RAS here, LPS in `dlir`; `scene.frames` converts.
"""
