"""Whether the hub of weights answers: known in seconds, not after a minute of silent retries."""

import logging
import os
from functools import cache
from threading import Thread

LOG = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds
OF_PROXIES = (502, 503, 504)  # answers of one that does not reach the hub itself


@cache  # once in a process
def offline_unless_reachable() -> None:
    """Before a download: where the hub does not answer, only what was fetched before is used."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or answers(constants.ENDPOINT):
        return
    LOG.info(
        "%s does not answer: only weights that were downloaded before can be used.",
        constants.ENDPOINT,
    )
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"


def answers(address: str) -> bool:
    """Whether an address answers in time, through a proxy where there is one."""
    answers: list[bool] = []
    # In a thread, because looking up a name has no time limit of its own.
    attempt = Thread(target=_ask, args=(address, answers), daemon=True)
    attempt.start()
    attempt.join(PATIENCE)
    return bool(answers)


def _ask(address: str, answers: list[bool]) -> None:
    """Ask with the hub's own client, which knows its proxies and certificates."""
    from huggingface_hub.utils import get_session

    try:
        status = get_session().head(address, timeout=PATIENCE).status_code
    except Exception:  # the client raises types of its own, of connections and of certificates
        return
    if status not in OF_PROXIES:
        answers.append(True)
