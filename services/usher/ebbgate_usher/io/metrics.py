"""The usher's numbers, as metrics."""

from collections.abc import Iterator

from ebbgate_bus.runtime import metrics
from ebbgate_usher.io import callout

CATALOGUE = metrics.Catalogue("ebbgate_usher")
ANSWERS = CATALOGUE.counter(
    "answers", "Connections that nats-server asked about: accepted, rejected, unanswered", "outcome"
)
UNDER_WAY = CATALOGUE.gauge("under_way", f"Questions being answered, of {callout.AT_ONCE} at once")
REVIEW = CATALOGUE.histogram("review_seconds", "Until the API server has said whose a token is")


def collect(answering: callout.Callout) -> Iterator[metrics.Measured]:
    yield metrics.by(ANSWERS, answering.answered)
    yield metrics.one(UNDER_WAY, answering.under_way)
    yield metrics.one(REVIEW, answering.reviews)
