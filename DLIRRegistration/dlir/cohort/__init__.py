"""Many pairs and whole sequences: what runs on top of one registration."""
