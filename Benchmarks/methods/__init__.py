"""Methods that are compared on any pair, each in a process of its own: nothing, DLIR's command, and its peers."""
