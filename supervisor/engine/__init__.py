"""The one way to the container engine: no other package imports the Docker SDK."""

from supervisor.engine.errors import (
    BuildFailed,
    ContainerGone,
    EngineError,
    EngineUnreachable,
    ImageMissing,
    NameTaken,
    NoSpace,
    SpecViolated,
)
from supervisor.engine.gateway import DEFAULT_URL, MINIMUM_API, Engine, engine_url
from supervisor.engine.values import ContainerView, EngineEvent, ImageView
from supervisor.engine.watch import Watch

__all__ = [
    "DEFAULT_URL",
    "MINIMUM_API",
    "BuildFailed",
    "ContainerGone",
    "ContainerView",
    "Engine",
    "EngineError",
    "EngineEvent",
    "EngineUnreachable",
    "ImageMissing",
    "ImageView",
    "NameTaken",
    "NoSpace",
    "SpecViolated",
    "Watch",
    "engine_url",
]
