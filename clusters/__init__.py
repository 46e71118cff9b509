"""How a cluster comes to be, and goes."""
