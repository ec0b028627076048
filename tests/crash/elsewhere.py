"""Where deaths are shown at places that an update on its road does not come by: in ``off_the_road/``."""

from typing import Final

from supervisor.states import Status

_WHEN: Final = ("before", "after")

#: Where the update's own thread waits meanwhile, by the status in which it is cancelled.
CANCELLED_WHILE: Final = {
    Status.CREATED: "ledger.created.building.before",
    Status.BUILDING: "engine.build.before",
    Status.TESTING: "engine.create.test.before",
    Status.SELF_CHECKING: "engine.create.check.before",
    Status.APPROVED: "ledger.approved.deploying.before",
}

#: The places of each test, in the order in which it comes by them.
SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "test_while_a_check_of_the_owners_is_made": ("engine.create.check", "engine.start.check"),
    "test_as_a_build_fails": ("ledger.building.build_failed",),
    "test_as_it_is_cancelled": tuple(f"ledger.{status}.cancelled" for status in CANCELLED_WHILE),
    "test_as_others_are_superseded": ("ledger.approved.superseded", "ledger.staged.superseded"),
    "test_as_a_button_is_pressed": ("ledger.card.spend",),
    "test_as_the_bot_does_not_take_an_ending": ("ledger.ending.forget",),
    "test_as_a_directory_is_granted_and_taken_back": ("ledger.grant", "ledger.grant.end"),
    "test_as_a_call_is_given_the_network": (
        "ledger.append.toolbox.opened",
        "engine.create.network-toolbox",
        "engine.start.network-toolbox",
        "ledger.append.toolbox.closed",
    ),
    "test_as_the_supervisor_is_told_to_end": ("ledger.attempt.back",),
    "test_as_old_events_are_removed": ("ledger.prune",),
    "test_as_images_are_removed": ("engine.remove_image", "ledger.append.update.cleanup.completed"),
    "test_while_nothing_runs": (
        "ledger.append.rescue.started",
        "ledger.notice",
        "ledger.notice.told",
        "ledger.keep",
        "ledger.kept.answered",
        "ledger.kept.taken",
    ),
    "test_as_a_bot_is_claimed_and_as_an_installation_is_purged": ("ledger.owner", "engine.remove_network"),
}


def deaths(place: str) -> list[str]:
    """Before it and after it."""
    return [f"{place}.{when}" for when in _WHEN]


def shown_by(test: str) -> list[str]:
    """Before and after each of a test's places."""
    return [death for place in SHOWN[test] for death in deaths(place)]


def shown() -> set[str]:
    """The places of all tests."""
    return {place for places in SHOWN.values() for place in places}
