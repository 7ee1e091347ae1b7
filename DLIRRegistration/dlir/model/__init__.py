"""A model: its specification, preprocessing, networks, and the one file that holds them."""
