"""Builds through the gateway: what they give, what they may reach, and how they fail."""

import time
from collections.abc import Iterator, Mapping

import pytest

from supervisor.engine import BuildFailed, Engine, EngineError, ImageView
from supervisor.images.builds import Deps
from supervisor.images.contexts import tar_of
from tests.support.projects import new_project


class Builds:
    """Small images of a project of their own, removed afterwards."""

    def __init__(self, engine: Engine, parent: str) -> None:
        self.engine = engine
        self.project = new_project()
        self.tag = f"{self.project}/built:1"
        self.lines: list[str] = []
        self._parent = parent

    def build(
        self, *instructions: str, files: Mapping[str, bytes] | None = None, network: bool = False, timeout: float = 60
    ) -> ImageView:
        text = "\n".join((f"FROM {self._parent}", "USER 0", *instructions, ""))
        image_id = self.engine.build(
            tar_of({"Dockerfile": text.encode(), **(files or {})}),
            tag=self.tag,
            labels={"autonous.project": self.project},
            network=network,
            log=self.lines.append,
            timeout=timeout,
        )
        image = self.engine.image(image_id)
        assert image is not None
        return image


@pytest.fixture
def builds(engine: Engine, deps: Deps) -> Iterator[Builds]:
    made = Builds(engine, deps.image_id)
    yield made
    for image in engine.images({"autonous.project": made.project}):
        engine.remove_image(image.id)


def test_a_build_gives_an_image(builds: Builds) -> None:
    """Under its tag, with its labels, one layer above its parent."""
    image = builds.build("COPY file /file", files={"file": b"content"})
    assert image.tags == (builds.tag,)
    assert image.labels["autonous.project"] == builds.project
    assert [found.id for found in builds.engine.images({"autonous.project": builds.project})] == [image.id]
    assert any("COPY file" in line for line in builds.lines)
    assert any("COPY" in layer["CreatedBy"] for layer in builds.engine.image_history(image.id))


def test_a_tag_moves(builds: Builds) -> None:
    """To the image that it is given to last; an image is gone with its last name."""
    image = builds.build("COPY file /file", files={"file": b"1"})
    second = f"{builds.project}/built:2"
    builds.engine.tag(image.id, second)
    builds.engine.remove_image(builds.tag)
    found = builds.engine.image(image.id)
    assert found is not None
    assert found.tags == (second,)
    for _ in range(2):
        builds.engine.remove_image(second)
        assert builds.engine.image(image.id) is None


def test_a_build_has_no_network(builds: Builds) -> None:
    """Only the loopback is there, unless it is asked for."""
    builds.build("RUN echo interfaces: $(ls /sys/class/net)")
    assert "interfaces: lo" in builds.lines
    builds.lines.clear()
    builds.build("RUN echo interfaces with: $(ls /sys/class/net)", network=True)
    (line,) = [line for line in builds.lines if line.startswith("interfaces with:")]
    assert len(line.split()) > 3


def test_a_build_that_fails_says_what_it_printed(builds: Builds) -> None:
    """The error has the engine's word and the last lines; no image is left."""
    with pytest.raises(BuildFailed, match="returned a non-zero code: 3") as caught:
        builds.build("RUN for n in $(seq 100); do echo line $n; done; exit 3")
    assert "line 100" in caught.value.log
    assert len(caught.value.log.splitlines()) <= 41
    assert "line 1" in builds.lines
    assert builds.engine.image(builds.tag) is None


@pytest.mark.parametrize("instruction", ["COPY missing /missing", "FLY away", "FROM nowhere/none:none"])
def test_a_recipe_that_cannot_be_followed(builds: Builds, instruction: str) -> None:
    """Whatever is wrong with it is an error of the engine's, and no image is left."""
    with pytest.raises(EngineError):
        builds.build(instruction)
    assert builds.engine.image(builds.tag) is None


@pytest.mark.fault(
    22,
    what="given up",
    user="`build_failed` with its last lines",
    within="the pipeline's time-out",
)
def test_a_build_that_falls_silent(builds: Builds) -> None:
    """It is given up after the time it is given, and told as silence."""
    begun = time.monotonic()
    with pytest.raises(BuildFailed, match="no word from the build for 1 s") as caught:
        builds.build("RUN echo then nothing; sleep 20", timeout=1)
    assert time.monotonic() - begun < 10
    assert "then nothing" in caught.value.log
