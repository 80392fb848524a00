"""Runs in, one HTML page out that needs no network, no server and no other file.

The surprising thing: everything on the page comes from the run's folder; the data may be long gone, and no framework is imported.
"""

from residual.report.page import write_report

__all__ = ["write_report"]
