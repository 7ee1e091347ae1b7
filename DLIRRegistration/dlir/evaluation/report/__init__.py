"""An evaluation as one HTML page that needs nothing else: the paper's tables and figures."""
