"""What is done with a result: looked into, carried over, put on a page. No worker takes part."""
