"""A check of every picture before a run that streams them: headers and ends of files only, so that bad ones are named up front.

The surprising thing: a file without the usual end is not condemned by that; it is decoded, and only that decides.
"""

from residual.data.chunks import Progress, each_chunk
from residual.data.picture import reason, strict_pillow
from residual.data.records import ArrayStore, FileStore, Problem, Records

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
_TAIL = 4096
_CHUNK = 256


def screen(records: Records, *, workers: int = 0, progress: Progress | None = None) -> tuple[Problem, ...]:
    """The pictures that cannot be read, in order; a damaged middle shows only when the picture is decoded."""
    if isinstance(records.store, ArrayStore):
        return ()
    threads = workers if isinstance(records.store, FileStore) else 0  # reading files waits for the disk, a table does not
    with strict_pillow():
        found = each_chunk(lambda chunk: _check(records, chunk), len(records), _CHUNK, workers=threads, progress=progress)
        return tuple(problem for problems in found for problem in problems)


def _check(records: Records, chunk: range) -> list[Problem]:
    found = []
    for index in chunk:
        try:
            image = records.open(index)
            if not _ends_well(records.store.content(int(records.rows[index])), image.format or ""):
                image.load()
        except Exception as error:  # Pillow's readers raise a dozen kinds on broken files
            found.append(Problem(file=records.name(index), reason=reason(error)))
    return found


def _ends_well(content: bytes, kind: str) -> bool:
    return kind in _ENDS and _ENDS[kind] in content[-_TAIL:]
