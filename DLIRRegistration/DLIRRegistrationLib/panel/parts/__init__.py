"""What the sections of the panel are made of, each usable by several of them."""
