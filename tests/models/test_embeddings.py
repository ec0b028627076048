"""Vectors from a server that speaks OpenAI's embeddings, through the real SDK."""

from pathlib import Path

import pytest

from tests.models.wiring import TcpServer
from tests.worker.httpserver import Request, Response
from tests.worker.support import asynchronous
from worker.models.base import ModelError, ProviderApiError, ValidationError
from worker.models.embeddings import OpenAIEmbedder
from worker.models.embeddings_base import TextsRefused

TOO_LONG = {"error": {"message": "This model's maximum context length is 8192 tokens", "type": "invalid_request_error"}}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(TOO_LONG, status=400), TextsRefused),
        (Response({"error": {"message": "too large"}}, status=413), TextsRefused),
        (Response({"error": {"message": "no such model"}}, status=404), ProviderApiError),
        (Response({"error": {"message": "slow down"}}, status=429), ProviderApiError),
        (Response({"error": {"message": "down"}}, status=500), ProviderApiError),
        (Response({"object": "list", "data": [], "model": "m"}), ValidationError),
    ],
    ids=["400", "413", "404", "429", "500", "empty"],
)
def test_texts_that_are_refused_are_told_from_a_server_that_fails(answer: Response, error: type[ModelError]) -> None:
    """Only what may be the texts' fault is, after one request."""

    @asynchronous
    async def ask() -> None:
        asked = []

        async def handle(request: Request) -> Response:
            asked.append(request)
            return answer

        server = TcpServer(Path("/nowhere"), handle)
        await server.start()
        embedder = OpenAIEmbedder(api_key=None, base_url=f"{server.url}/v1", model="m")
        try:
            with pytest.raises(error) as caught:
                await embedder.embed(["one", "two"])
            assert type(caught.value) is error
            assert len(asked) == 1
        finally:
            await embedder.close()
            await server.stop()

    ask()
