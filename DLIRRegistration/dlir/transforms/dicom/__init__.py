"""Registrations as DICOM objects, which hospital systems keep beside the images."""
