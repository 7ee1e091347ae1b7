"""The sections of the panel, one file each: what the user does there."""
