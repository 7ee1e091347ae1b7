"""From two images to a result: preprocessing, networks, composition, resampling, figures."""
