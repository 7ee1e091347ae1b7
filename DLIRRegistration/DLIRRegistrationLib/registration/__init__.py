"""Registrations of nodes: what is asked for, how it is run, and the nodes, report and verdict that come of it."""
