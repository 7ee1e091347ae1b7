"""`python -m dlir`: the command line where its script is not on the path."""

from dlir.cli import main

main()
