"""What kind of error it was: the one word that events carry, and that the circuit breaker counts by."""

from enum import StrEnum

from worker.commander.base import CommanderError
from worker.models.base import ModelError
from worker.store.errors import is_store_failure
from worker.tools.base import ToolError


class ErrorClass(StrEnum):
    """All kinds there are."""

    COMMAND_SOURCE_API = "command_source_api"
    PROVIDER_API = "provider_api"
    DB = "db"
    TOOL_EXEC = "tool_exec"
    VALIDATION = "validation"
    UNKNOWN = "unknown"


def classify(error: Exception) -> ErrorClass:
    """The kind of an error, from its type and never from its words."""
    match error:
        case ModelError() if error.error_class in list(ErrorClass):
            return ErrorClass(error.error_class)
        case ToolError():
            return ErrorClass.TOOL_EXEC
        case CommanderError():
            return ErrorClass.COMMAND_SOURCE_API
        case _ if is_store_failure(error):
            return ErrorClass.DB
        case _:
            return ErrorClass.UNKNOWN
