"""Why residual networks work: one module for each experiment of the papers, with a frozen `Result` and the function that makes it.

Importing a study imports no framework: its results can be read, and drawn, without one.
"""
