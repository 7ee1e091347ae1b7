"""What the views show: layouts, colours of Jacobian maps, checkerboards, and the deformation over the slices."""
