"""The methods that an evaluation compares."""
