"""The file that a command writes: it is whole, or is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from mlflow_trace_exporter.errors import UserError, what_failed


@contextmanager
def at(path: Path) -> Iterator[IO[str]]:
    """A file that appears at ``path``, the value of --output, only when it is complete. Raises UserError if it cannot
    be written."""
    path = path.resolve()  # follow a symbolic link
    if path.exists() and not path.is_file():  # a device or pipe would be replaced
        raise UserError(f"--output: {path} is not a regular file")
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                yield file
                file.close()
                part.chmod(0o644)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"--output: cannot write {path}: {what_failed(error)}") from None
