"""What several tests of audits need."""

import pytest


@pytest.fixture
def in_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of more than 100 kB are large, and worth processes of their own."""
    monkeypatch.setattr("pyrite.audit.spans.ALONE_BYTES", 100_000)
    monkeypatch.setattr("pyrite.audit.runner.WORTH_WORKERS", 0.0)
