"""Tokens, shown to the API server: TokenReview. All that the usher may do there."""

import msgspec

from ebbgate_usher.core.tokens import Review
from ebbgate_usher.io import api

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"


async def review(server: api.Api, token: str, *, audience: str) -> Review:
    """Raises api.Refused, api.FAILURES."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    answer = await server.call("POST", PATH, body)
    try:
        return msgspec.convert(answer.get("status") or {}, Review)
    except msgspec.ValidationError as error:
        raise api.Refused(f"a TokenReview that can't be read: {error}") from error
