"""Which images there are and which belong together: scans, pairs, manifests, and the layouts of known data sets."""
