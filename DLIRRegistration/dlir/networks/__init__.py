"""The two networks of the paper: AIR for affine and DIR for deformable registration, built from a StageSpec."""
