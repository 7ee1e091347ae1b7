"""The module's panel, one file per section. The only code of this library that knows of Qt.

Values live in the parameter node. A section shows them (`show`) and writes back what the user chooses; what is to be
computed goes to the Logic.
"""
