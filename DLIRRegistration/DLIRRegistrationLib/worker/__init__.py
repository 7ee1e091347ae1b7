"""The process that computes, and the client that talks to it. Knows no nodes."""
