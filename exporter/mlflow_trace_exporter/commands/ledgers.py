"""The commands about ledgers."""

import re
from pathlib import Path

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.commands import flags, stopping
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.settings.values import parse_database_url, parse_ledger_name

DEFAULT_NAME = "mlflow_trace_exporter"


@click.group(short_help="Copy a ledger between a file and PostgreSQL.")
def ledger() -> None:
    """Manage ledgers, in which `serve` keeps what it has counted."""


@ledger.command(short_help="Copy a ledger.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--name",
    metavar="NAME",
    callback=flags.read_by(parse_ledger_name),
    help=f"Name of the new ledger in PostgreSQL (ledger.name).  [default: {DEFAULT_NAME}]",
)
@click.option(
    "--from-name",
    metavar="NAME",
    callback=flags.read_by(parse_ledger_name),
    help=f"Name of the ledger in PostgreSQL to copy.  [default: {DEFAULT_NAME}]",
)
def copy(source: str, target: str, name: str | None, from_name: str | None) -> None:
    """Copy a ledger, so that `serve` can continue with the copy.

    FROM and TO are each the path of a file (ledger.path), or the URL of a PostgreSQL database (ledger.url). The copy
    contains everything, so every counter keeps its value. If the command fails or is stopped, no copy is made, and
    FROM is unchanged. The command never replaces an existing ledger.

    First stop all exporters that use either ledger. Afterwards, start an exporter only with TO: an exporter with FROM
    would count the same traces. Run the command as the user of the exporter. Set the password in PGPASSWORD or
    PGPASSFILE, because other users of this machine can see command lines.

    \b
    Examples:
      mlflow-trace-exporter ledger copy ledger.db postgresql://exporter@db.example.com/monitoring
      mlflow-trace-exporter ledger copy postgresql://exporter@db.example.com/monitoring ledger.db

    \b
    Exit codes:
      0  success
      2  invalid flag, or the ledger cannot be copied; no copy is made
    """
    from mlflow_trace_exporter.commands import progress  # rich, which --help should not wait for
    from mlflow_trace_exporter.ledger import copying

    logs.setup("error", "logfmt")
    places = _place(source, from_name, "FROM", "--from-name"), _place(target, name, "TO", "--name")
    with progress.shown_rows() as tell, stopping.between_steps() as stop_if_told:

        def after_step(copied: int, total: int) -> None:
            stop_if_told()
            tell(copied, total)

        rows = copying.copy(*places, after_step)
    flags.tell(f"copied {rows:,} rows to {places[1]}; start `serve` with that ledger only")


def _place(text: str, name: str | None, argument: str, flag: str) -> Place:
    if re.match(r"postgres(ql)?://", text):
        return Database(_url(text, argument), name or DEFAULT_NAME)
    if name is not None:
        raise UserError(f"{flag}: is the name of a ledger in PostgreSQL, but {argument} is a file; remove the flag")
    if "://" in text:
        raise UserError(f"{argument}: is neither the path of a file nor a URL such as postgresql://user@host/database")
    return Path(text).expanduser().absolute()


def _url(text: str, argument: str) -> str:
    try:
        return parse_database_url(text)
    except ValueError as error:
        raise UserError(f"{argument}: {error}") from None
