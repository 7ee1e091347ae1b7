"""A cine, or any 4D image: every phase registered to one of them, by `dlir.cohort.cine.register.register_cine`."""
