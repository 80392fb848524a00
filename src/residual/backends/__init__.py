"""The frameworks. Each module has the same five functions: build, set_weights, get_weights, forward, fit."""
