"""A hub that does not answer."""

import time
from typing import NamedTuple

import pytest

from utilities import hub


class Client(NamedTuple):
    """A hub client whose requests end in a status, or in an error."""

    status_code: int = 200
    error: Exception | None = None
    seconds: float = 0

    def head(self, address: str, timeout: float) -> "Client":
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return self


@pytest.mark.parametrize(
    "client, answers",
    [
        (Client(), True),
        (Client(404), True),
        (Client(503), False),
        (Client(error=OSError("Tunnel connection failed: 403 Forbidden")), False),
        (Client(seconds=30), False),
    ],
)
def test_what_counts_as_an_answer(monkeypatch, client, answers):
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: client)
    assert hub.answers("https://hub") == answers


def test_without_an_answer_only_the_cache_is_used(monkeypatch, caplog):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda address: False)
    hub.offline_unless_reachable.cache_clear()
    try:
        with caplog.at_level("INFO"):
            hub.offline_unless_reachable()
        from huggingface_hub import constants

        assert constants.HF_HUB_OFFLINE and "does not answer" in caplog.text
    finally:
        hub.offline_unless_reachable.cache_clear()
