"""What an error of Redis means and what to do, in one line: redis-py says "10834 10.0.0.7:6379" of a cluster.

Does not belong here: which of them is an `OnlineStoreError` (the callers of Redis).
"""

from __future__ import annotations

import re
import ssl

from redis import Redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

CLUSTER = (
    "is a node of a Redis Cluster, which Marquee does not support: the rows of one read lie on several nodes."
    " Use a Redis or Valkey without cluster mode (cluster-enabled no), or a proxy that hides it"
)

KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((MasterDownError,), "is a replica that has lost its primary: name the primary in REDIS_URL"),
    ((AskError, ClusterDownError, ClusterCrossSlotError), CLUSTER),
    ((ReadOnlyError,), "is a replica that only reads: name the primary in REDIS_URL"),
    ((BusyLoadingError,), "is still loading its data: wait until it has"),
    ((OutOfMemoryError,), "is full (its maxmemory): raise that, or remove what else it holds"),
    (
        (AuthenticationWrongNumberOfArgsError,),
        "asks for no password, and REDIS_URL has one: leave it out, or set it on the server",
    ),
)
"""The first that fits: MovedError is an AskError, MasterDownError a ClusterDownError."""

TLS = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate that is not trusted here ({reason}): name its authority's"
        " certificate with ?ssl_ca_certs=/path/ca.pem, or the host that it was made for",
    ),
    ("WRONG_VERSION_NUMBER", "does not speak TLS at that port: write redis://, or name its port for TLS"),
    ("RECORD_LAYER_FAILURE", "does not speak TLS at that port: write redis://, or name its port for TLS"),
    (
        "CERTIFICATE_REQUIRED",
        "wants a certificate of the client: ?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem",
    ),
)


BOTH_ENDS = (
    "REDIS_URL must begin with rediss:// where that port speaks TLS, and with redis:// where it does not"
)
"""A server with TLS hangs up on a client without; one without waits for the rest of a client's line."""


def explain(error: BaseException) -> str:
    """What becomes of "Redis at … " when this happened: a clause without a full stop."""
    for kinds, meaning in KINDS:
        if isinstance(error, kinds):
            return meaning
    text = _text(error)
    if isinstance(error, AuthenticationError | NoPermissionError | ResponseError):
        return _refusal(error, text)
    for sign, meaning in TLS:
        if sign in text:
            return meaning.format(reason=_reason(error))
    if isinstance(error, ssl.SSLError):
        return f"cannot be spoken to with TLS ({text}): look at the options of REDIS_URL and their files"
    if isinstance(error, TimeoutError) or "imeout" in type(error).__name__:
        return f"does not answer in time ({text}): look whether it runs and what it is doing; {BOTH_ENDS}"
    if "closed by server" in text:
        return f"ended the connection ({text}): {BOTH_ENDS}"
    return f"cannot be reached ({text}): start it or correct REDIS_URL"


def refuse_cluster(client: Redis) -> None:
    """Looks whether the server is a node of a Redis Cluster: one that has all slots works for a while.

    Raises:
        ClusterDownError: it is; `explain` says the rest.
        RedisError: it cannot be reached.
    """
    try:
        found = client.info("cluster")
    except NoPermissionError:  # a user who may not ask; the first key on another node says it
        return
    if isinstance(found, dict) and found.get("cluster_enabled") == 1:
        raise ClusterDownError("cluster_enabled:1")


def _refusal(error: BaseException, text: str) -> str:
    if text.startswith(("NOAUTH", "Authentication required")):
        return "asks for a password, and REDIS_URL has none: redis://:password@host"
    if "without any password configured" in text:
        return KINDS[-1][1]
    if isinstance(error, AuthenticationError):
        return "does not accept the user and password of REDIS_URL: correct them"
    if isinstance(error, NoPermissionError):
        return f"does not let this user do that ({text}): give the user of REDIS_URL the command"
    return f"answers with an error: {text}"


def _text(error: BaseException) -> str:
    # Of a pipeline redis-py quotes the command, with keys in Feast's binary form.
    pipeline = r"^Command # \d+ \(.*\) of pipeline caused error: (?:\([\"'](.*)[\"'],\)|(.*))$"
    found = re.match(pipeline, str(error), re.DOTALL)
    text = (found[1] or found[2]) if found else str(error)
    return " ".join(text.split()) or type(error).__name__


def _reason(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message.strip().rstrip(".")
        seen = seen.__cause__ or seen.__context__
    return "its check fails"
