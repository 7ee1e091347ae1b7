"""DICOM series: what their headers say, and their slices and time points in order."""
