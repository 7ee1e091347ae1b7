"""Whether to trust a registration: figures that tell right from wrong, the verdict on them, the error to expect."""
