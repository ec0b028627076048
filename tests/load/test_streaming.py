"""A slow answer, from the model's stream to the chat: one message that grows."""

import itertools
import random
import signal
from typing import Final

from supervisor.localbot.store import EventKind
from tests.load.stage import Model, stage, wait_for

OWNER: Final = 1
QUESTION: Final = "tell me slowly: " + "one two three four five six seven eight nine ten " * 8 + "**done**"


def test_a_slow_answer_grows_in_one_message() -> None:
    """The stream is shown as it comes, in edits at least a second apart; the last one is the whole answer."""
    with stage(Model(random.Random(1), pause=0.25, pieces=16), range(OWNER, OWNER + 1)) as here:
        here.start()
        here.bot.send(QUESTION)
        wait_for(lambda: here.rows("SELECT 1 FROM outbox WHERE status = 'sent'"), 20, "the answer")
        assert here.stop(signal.SIGTERM) == 0
        seen = [event for event in here.bot.events() if event.from_bot and event.message is not None]
        assert [event.kind for event in seen] == [EventKind.MESSAGE] + [EventKind.EDIT] * (len(seen) - 1)
        assert len(seen) >= 4
        texts = [event.message.text for event in seen if event.message is not None]
        answer = f"re:{QUESTION}".replace("**", "")
        assert texts[-1] == answer
        assert all(answer.startswith(text) and len(text) < len(later) for text, later in itertools.pairwise(texts))
        shown = [event.at for event in seen[:-1]]  # the answer itself waits for nothing
        assert min(later - earlier for earlier, later in itertools.pairwise(shown)) > 0.9
        assert here.rows("SELECT text FROM history WHERE role = 'assistant'") == [(f"re:{QUESTION}",)]
