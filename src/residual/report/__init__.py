"""Runs, studies' results and models in, one HTML page out that needs no network, no server and no other file.

The surprising thing: everything on the page comes from the thing's own folder; the data may be long gone. No framework is imported but to
see where a trained model looks on the few pictures that its run has kept.
"""

from residual.report.page import write_report
from residual.report.things import Model, Study, Thing, open_thing

__all__ = ["Model", "Study", "Thing", "open_thing", "write_report"]
