"""Topics at the edge: what is checked, how requests are served, the routes."""

from __future__ import annotations

from typing import Any

from coordinator.api.http import Routes
from coordinator.api.registry import Change, DomainApi, KeyRange, Live, Query, View
from coordinator.domains.topics import model
from coordinator.domains.topics.commands import AGE_TICK_MIN_MS, DOMAIN
from coordinator.domains.topics.serving import serve_subscribe, serve_subscribers
from coordinator_sdk import errors
from coordinator_sdk.errors import InvalidRequest, NotFound
from coordinator_sdk.protocol.topics import (
    EARLIEST,
    LATEST,
    REVISION,
    SEQUENCE,
    TopicCreate,
    TopicDelete,
    TopicGap,
    TopicGet,
    TopicInfo,
    TopicList,
    TopicListResult,
    TopicMessages,
    TopicPublish,
    TopicPublishResult,
    TopicRead,
    TopicReadResult,
    TopicReady,
    TopicResult,
    TopicSubscribe,
    TopicSubscribers,
    TopicSubscribersResult,
)

TOKENS_MAX = 32
HEADERS_MAX = 64
HEADER_BYTES_MAX = 1024
READ_MAX = 1000
READ_BYTES_MAX = 1 << 20
"""Payload bytes after which a read gives no further message."""
STARTS = (LATEST, EARLIEST, SEQUENCE, REVISION)


def _check_tokens(field: str, name: str, wildcards: bool) -> None:
    """Refuse what is no topic, or no pattern: tokens joined by dots."""
    tokens = name.split(".")
    if len(tokens) > TOKENS_MAX:
        raise InvalidRequest(f"{field}: at most {TOKENS_MAX} tokens", field=field)
    for place, token in enumerate(tokens, 1):
        if not token:
            raise InvalidRequest(f"{field}: a token between dots is empty", field=field)
        if any(character.isspace() for character in token):
            raise InvalidRequest(f"{field}: no spaces", field=field)
        is_wildcard = token == "*" or (token == ">" and place == len(tokens))
        if (">" in token or "*" in token) and not (wildcards and is_wildcard):
            where = "`*` is a whole token, `>` the last one" if wildcards else "no wildcards here"
            raise InvalidRequest(f"{field}: {where}", field=field)


def _check_topic(request: TopicDelete | TopicGet | TopicRead) -> None:
    _check_tokens("topic", request.topic, wildcards=False)


def _check_create(request: TopicCreate) -> None:
    _check_tokens("topic", request.topic, wildcards=False)
    retention = request.retention
    if retention is not None and 0 < retention.max_age_ms < AGE_TICK_MIN_MS:
        raise InvalidRequest(
            f"retention.max_age_ms: 0 for no limit, or at least {AGE_TICK_MIN_MS}",
            field="retention.max_age_ms",
        )


def _check_publish(request: TopicPublish) -> None:
    _check_tokens("topic", request.topic, wildcards=False)
    if len(request.headers) > HEADERS_MAX:
        raise InvalidRequest(f"headers: at most {HEADERS_MAX} of them", field="headers")
    for name, value in request.headers.items():
        if len(value.encode()) > HEADER_BYTES_MAX:
            raise InvalidRequest(
                f"headers.{name}: at most {HEADER_BYTES_MAX} bytes", field=f"headers.{name}"
            )


def _check_subscribe(request: TopicSubscribe) -> None:
    _check_tokens("pattern", request.pattern, wildcards=True)
    if request.start not in STARTS:
        raise InvalidRequest(f"start: one of {', '.join(STARTS)}", field="start")
    if request.start == SEQUENCE and not request.position:
        raise InvalidRequest("position: sequences begin at 1", field="position")


def _check_list(request: TopicList) -> None:
    _check_tokens("pattern", request.pattern, wildcards=True)


def _check_subscribers(request: TopicSubscribers) -> None:
    if request.topic:
        _check_tokens("topic", request.topic, wildcards=False)


def _find(view: View, namespace: str, topic: str) -> model.TopicRecord:
    record = view.get(model.topic_key(namespace, topic))
    found = None if record is None else model.decode_topic(record.value)
    if found is None or found.is_deleted:
        raise NotFound(f"no topic {topic!r}", topic=topic)
    return found


def _get(view: View, request: TopicGet) -> TopicInfo:
    record = _find(view, request.namespace, request.topic)
    return model.topic_view(view, request.namespace, request.topic, record)


def _get_ranges(request: TopicGet) -> list[KeyRange]:
    key = model.topic_key(request.namespace, request.topic)
    return [(key, key + b"\0"), model.messages(request.namespace, request.topic)]


def _list(view: View, request: TopicList) -> TopicListResult:
    return TopicListResult(model.topics_view(view, request.namespace, request.pattern))


def _list_ranges(request: TopicList) -> list[KeyRange]:
    return [
        model.topics(request.namespace, request.pattern),
        model.every_message(request.namespace),
    ]


def _read(view: View, request: TopicRead) -> TopicReadResult:
    namespace, topic = request.namespace, request.topic
    record = _find(view, namespace, topic)
    first, last = model.bounds(view, namespace, topic, record)
    limit = min(request.limit or READ_MAX, READ_MAX)
    result = TopicReadResult(first, last, [])
    size = 0
    for found in view.scan(
        *model.messages(namespace, topic, max(request.first, first)), limit=limit
    ):
        message = model.message_view(topic, found)
        result.messages.append(message)
        size += len(message.payload)
        if size >= READ_BYTES_MAX:
            break
    return result


OPERATIONS: dict[type[Any], Change | Query | Live] = {
    TopicCreate: Change(_check_create),
    TopicDelete: Change(_check_topic),
    TopicPublish: Change(_check_publish),
    TopicSubscribe: Live(serve_subscribe, _check_subscribe, fresh=True),
    TopicGet: Query(_get, _check_topic, _get_ranges),
    TopicList: Query(_list, _check_list, _list_ranges),
    TopicRead: Query(_read, _check_topic),
    TopicSubscribers: Live(serve_subscribers, _check_subscribers),
}


def _routes() -> Routes:
    made = Routes("Topics")
    past = (errors.Compacted, errors.FutureRevision)
    made.add(
        "PUT",
        "/topics/{topic}",
        TopicCreate,
        TopicResult,
        summary="Create a topic, or change its retention",
        example={"retention": {"max_age_ms": 3_600_000, "max_messages": 1000, "max_bytes": 0}},
    )
    made.add("DELETE", "/topics/{topic}", TopicDelete, TopicResult, summary="Delete a topic")
    made.add(
        "GET",
        "/topics/{topic}",
        TopicGet,
        TopicInfo,
        summary="Read one topic",
        raises=(NotFound, *past),
    )
    made.add(
        "GET",
        "/topics",
        TopicList,
        TopicListResult,
        summary="List topics",
        raises=past,
        descriptions={"pattern": "`*` is one token, `>` at the end one or more."},
    )
    _message_routes(made)
    return made


def _message_routes(made: Routes) -> None:
    made.add(
        "POST",
        "/topics/{topic}/messages",
        TopicPublish,
        TopicPublishResult,
        summary="Publish a message",
        raises=(errors.GuardFailed,),
        status=201,
        example={"payload": '{"id": 1}', "headers": {"content-type": "application/json"}},
    )
    made.add(
        "GET",
        "/topics/{topic}/messages",
        TopicRead,
        TopicReadResult,
        summary="Read messages from a sequence on",
        raises=(NotFound,),
        descriptions={"first": "0 for the oldest.", "limit": f"At most {READ_MAX}."},
    )
    made.stream(
        "/topics/{pattern}/subscribe",
        TopicSubscribe,
        (TopicReady, TopicMessages, TopicGap),
        summary="Stream the messages of every topic that matches a pattern",
        exclude=("credit", "after"),
        raises=(errors.SessionNotFound, errors.FutureRevision),
        descriptions={
            "start": "latest, earliest, sequence or revision.",
            "position": "The first sequence wanted, or the last revision not wanted.",
        },
    )
    made.add(
        "GET",
        "/subscriptions",
        TopicSubscribers,
        TopicSubscribersResult,
        summary="List the subscriptions that this member serves",
        descriptions={"topic": "Only those that get this topic's messages."},
    )


API = DomainApi(DOMAIN, OPERATIONS, _routes().router)
