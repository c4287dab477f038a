"""What a command raises becomes one sentence on standard error and an exit status."""

import os
import sys
import traceback
from collections.abc import Sequence

import click

DONE, FAILED, USED_WRONGLY, INTERRUPTED = 0, 1, 2, 130


def run(
    command: click.Command, arguments: Sequence[str] | None = None, *, program: str = "cutwork"
) -> int:
    """Run the command line and give its exit status; what nobody foresaw is raised."""
    try:
        told = command.main(
            args=None if arguments is None else list(arguments),
            prog_name=program,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on; without this Python complains once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        status, sentence = explain(error)
        if sentence is None:
            raise
        if os.environ.get("CUTWORK_LOG_LEVEL") == "DEBUG":
            traceback.print_exc()
        click.echo(f"cutwork: {sentence}", err=True)
        return status
    return told if isinstance(told, int) else DONE


def explain(error: Exception) -> tuple[int, str | None]:
    """The exit status, and a sentence that says what to do; None for what nobody foresaw."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    from cutwork.errors import CutworkError, DatabaseNotReady, InvalidInput, InvalidSetting

    match error:
        case click.UsageError():
            return USED_WRONGLY, _usage(error)
        case click.ClickException():
            return error.exit_code, error.format_message()
        case InvalidInput() | InvalidSetting():
            return USED_WRONGLY, str(error)
        case DatabaseNotReady(found=None):
            return FAILED, f"{error}, or `cutwork up` to run everything on this machine"
        case CutworkError():
            return FAILED, str(error)
        case DBAPIError() | PoolTimeout():
            return FAILED, _database(error)
        case OSError():
            return FAILED, _system(error)
    if type(error).__module__.startswith(("kombu.", "amqp.", "redis.")):
        reason = str(error).splitlines()[0]
        return FAILED, f"the broker cannot be used ({reason}): check CUTWORK_BROKER_URL"
    return FAILED, None


def _usage(error: click.UsageError) -> str:
    where = error.ctx.command_path if error.ctx else "cutwork"
    message = error.format_message().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}: see `{where} --help`"


def _database(error: Exception) -> str:
    from sqlalchemy.exc import DBAPIError

    from cutwork import database, schema
    from cutwork.cli.desk import shown_url
    from cutwork.errors import DatabaseNotReady
    from cutwork.settings import current

    if isinstance(error, DBAPIError) and database.is_missing_table(error):
        return str(DatabaseNotReady(None, schema.REVISION))
    # The driver's own words only: SQLAlchemy's would add the statement and its values.
    cause = getattr(error, "orig", None) or error
    reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    where = shown_url(current().database)
    return f"the database {where} cannot be used ({reason}): start it, or set CUTWORK_DATABASE_URL"


def _system(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    where = f" {error.filename}" if error.filename else ""
    return f"the system refused{where} ({reason}): check the path, its rights and the disk"
