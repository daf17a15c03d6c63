"""HTTP routes made from operations.

A route is declared by naming its operation; where each field travels follows from that::

    routes = Routes("Locks")
    routes.add("POST", "/locks/{name:path}/acquire", LockAcquire, TicketState,
               summary="Take a lock or join its queue", exclude=("follow",))

Fields named in the path come from there. Of the others, a GET or DELETE takes all from the
query, any other method ``namespace`` from the query and the rest from a JSON body. Answers,
errors and their documentation follow the conventions of `coordinator.api.models`.

What does not fit is written by hand on ``routes.router``, with `call` and `answer_json`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from inspect import Parameter as Argument
from inspect import Signature
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.exceptions import ValidationException
from fastapi.routing import APIRoute
from msgspec import Struct
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from coordinator.api import models
from coordinator.api.identity import caller_of, check_known
from coordinator_sdk import errors
from coordinator_sdk.errors import CoordinatorError, Internal, InvalidRequest

if TYPE_CHECKING:
    from coordinator.api.dispatch import Dispatcher


logger = logging.getLogger("coordinator.api")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
JSON_TYPE = "application/json"
NO_GUESSING = {"x-content-type-options": "nosniff"}
"""A browser takes an answer for JSON, whatever names and values in it look like."""
DEFAULT_NAMESPACE = "default"

ALWAYS: tuple[type[CoordinatorError], ...] = (
    errors.InvalidRequest,
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.RequestTooLarge,
    errors.Exhausted,
    errors.Unavailable,
)
"""Errors that any operation may answer with."""
CHANGES: tuple[type[CoordinatorError], ...] = (errors.NoSpace, errors.OutcomeUnknown)
"""Errors that any change may answer with besides."""


OPEN_ROUTES = frozenset(("auth_login", "auth_logout", "auth_jwks", "auth_whoami"))
"""Routes that do not ask who it is before they look at the request: how to become somebody."""


class ErrorFacts(BaseModel):
    """What went wrong."""

    code: str
    message: str
    details: dict[str, Any]
    retryable: bool


class ErrorBody(BaseModel):
    """Every error has this body; `code` is stable, `details.field` names a wrong field."""

    error: ErrorFacts


class _StrictRequest(Request):
    """Reads JSON as RFC 8259 has it: no NaN, no infinity, no lone surrogates."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = decode_json(await self.body())
        return self._json


def decode_json(raw: bytes) -> Any:
    """Read a JSON text.

    Raises:
        InvalidRequest: It is none, or nested too deeply.
    """
    try:
        return _decode(raw)
    except RecursionError:
        raise InvalidRequest("body: nested too deeply", field="body") from None
    except ValueError as error:
        raise InvalidRequest(f"body: no valid JSON: {error}", field="body") from None


class JsonRoute(APIRoute):
    """A route whose JSON body is read strictly, and whose errors come out as they went in."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Wrap the handler that FastAPI makes."""
        inner = super().get_route_handler()

        is_open = self.operation_id in OPEN_ROUTES

        async def handle(request: Request) -> Response:
            if not is_open and request.app.state.node.machine.auth.enabled:
                await check_known(request)
            try:
                if request.method in ("POST", "PUT", "PATCH") and self.body_field is not None:
                    request = _StrictRequest(request.scope, request.receive)
                    await _check_body(request)
                response: Response = await inner(request)
            except (CoordinatorError, HTTPException, ValidationException):
                raise
            except ClientDisconnect:
                return Response()  # It went before its request was whole: nobody reads this.
            except Exception as error:
                logger.error("a request broke: %r", error, exc_info=error)
                return answer_error(
                    Internal("the member failed to serve the request; its log says more")
                )
            return response

        return handle


async def _check_body(request: _StrictRequest) -> None:
    if not await request.body():
        return
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != JSON_TYPE and not kind.endswith("+json"):
        raise InvalidRequest(
            f"content-type: this route takes {JSON_TYPE}, not {kind or 'nothing'!r}",
            field="content-type",
        )
    await request.json()


async def call(request: Request, body: Struct) -> tuple[int, Any]:
    """Perform an operation for a request.

    Returns:
        The revision that the answer carries, and the result struct.

    Raises:
        CoordinatorError: As the operation does; the error handler turns it into an answer.
    """
    dispatcher: Dispatcher = request.app.state.dispatcher
    answer: tuple[int, Any] = await dispatcher.call(body, await caller_of(request))
    return answer


def answer_json(
    request: Request, result: Struct | Mapping[str, Any] | None, revision: int, status: int = 200
) -> Response:
    """Answer with a struct as JSON; the headers tell who answers and where it stands."""
    plain = models.to_json(result) if isinstance(result, Struct) else dict(result or {})
    headers = standing(request) | NO_GUESSING
    headers["coordinator-revision"] = str(revision)
    return Response(_encode(plain), status, headers, JSON_TYPE)


def standing(request: Request) -> dict[str, str]:
    """Make the headers that tell who answers and where it stands."""
    node = request.app.state.node
    return {
        "coordinator-cluster": models.format_id(node.cluster_id),
        "coordinator-member": models.format_id(node.member_id),
        "coordinator-term": str(node.term),
        "coordinator-revision": str(node.revision),
    }


def error_body(error: CoordinatorError) -> bytes:
    """Encode the body of an error's answer."""
    facts = {
        "code": error.code,
        "message": error.message,
        "details": error.details,
        "retryable": error.retryable,
    }
    return msgspec.json.encode({"error": facts}, enc_hook=str)


def answer_error(error: CoordinatorError) -> Response:
    """Answer with an error."""
    headers = dict(NO_GUESSING)
    if error.http_status in (429, 503):
        headers["retry-after"] = str(error.details.get("retry_after_s", 1))
    return Response(error_body(error), error.http_status, headers, JSON_TYPE)


def documented(
    answer: Any, status: int, kinds: Iterable[type[CoordinatorError]]
) -> dict[int | str, dict[str, Any]]:
    """Document the answers of a route: the good one, and its errors by status.

    Answers are named only; their models are made when somebody asks for the documentation.

    Args:
        answer: The struct of the good answer, or its OpenAPI content, or None.
        status: The status of the good answer.
        kinds: The errors.
    """
    made: dict[int | str, dict[str, Any]] = {status: {"description": "Done."}}
    if isinstance(answer, type):
        _ANSWERS[answer.__name__] = answer
        made[status]["content"] = _content(answer.__name__)
    elif answer is not None:
        made[status]["content"] = answer
    for kind in dict.fromkeys(kinds):
        text = f"`{kind.code}`: {(kind.__doc__ or '').strip()}"
        known = made.setdefault(kind.http_status, {"content": _content("ErrorBody")})
        known["description"] = f"{known.get('description', '')} {text}".strip()
    return made


_ANSWERS: dict[str, type[Struct]] = {}


def _content(name: str) -> dict[str, Any]:
    return {JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def answer_schemas() -> dict[str, Any]:
    """Describe every answer that `documented` named, as OpenAPI components."""
    from pydantic.json_schema import models_json_schema

    wanted: list[type[BaseModel]] = [ErrorBody]
    wanted += [models.answer_model(kind) for _, kind in sorted(_ANSWERS.items())]
    _, schema = models_json_schema(
        [(model, "serialization") for model in wanted],
        ref_template="#/components/schemas/{model}",
    )
    found: dict[str, Any] = schema["$defs"]
    return found


class Routes:
    """The HTTP face of a group of operations.

    Attributes:
        router: What FastAPI includes; take it for routes written by hand.
    """

    def __init__(self, tag: str, *, prefix: str = "/v1") -> None:
        self.tag = tag
        self.router = APIRouter(prefix=prefix, tags=[tag], route_class=JsonRoute)

    def add(
        self,
        method: str,
        path: str,
        kind: type[Struct],
        answer: type[Struct],
        *,
        summary: str,
        description: str = "",
        exclude: Iterable[str] = (),
        query: Iterable[str] = ("namespace",),
        raises: Sequence[type[CoordinatorError]] = (),
        status: int = 200,
        example: Mapping[str, Any] | None = None,
        descriptions: Mapping[str, str] | None = None,
        adjust: Callable[[Any], None] | None = None,
        serve: Callable[[Request, Any], Awaitable[Response]] | None = None,
    ) -> None:
        """Serve an operation under a method and a path.

        Args:
            method: The HTTP method.
            path: The path below the prefix; ``{field}`` or ``{field:path}`` names fields.
            kind: The request struct of the operation.
            answer: The struct of its result.
            summary: One line for the documentation.
            description: More of it; by default the docstring of ``kind``.
            exclude: Fields that keep their default here.
            query: Fields that travel in the query although the method takes a body.
            raises: The errors of this operation besides those that all have.
            status: The status of a good answer.
            example: A request body for the documentation.
            descriptions: What the documentation says about fields.
            adjust: Changes the request in place before it is served.
            serve: Answers the request itself, given the HTTP request and the struct.
        """
        shape = _Shape(method, path, kind, set(exclude), set(query))

        async def perform(request: Request, body: Struct) -> Response:
            if adjust is not None:
                adjust(body)
            revision, result = await call(request, body)
            return answer_json(request, result, revision, status)

        endpoint = shape.endpoint(serve or perform, descriptions or {}, example)
        kinds = [*ALWAYS, *(() if method == "GET" else CHANGES), *raises]
        self.router.add_api_route(
            path,
            endpoint,
            methods=[method],
            summary=summary,
            description=description or kind.__doc__,
            operation_id=operation_id(kind),
            responses=documented(answer, status, kinds),
            response_model=None,
            status_code=status,
        )

    def stream(
        self,
        path: str,
        kind: type[Struct],
        items: Sequence[type[Struct]],
        *,
        summary: str,
        description: str = "",
        exclude: Iterable[str] = ("credit",),
        raises: Sequence[type[CoordinatorError]] = (),
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        """Serve an operation that opens a stream under GET, as events or lines.

        Args:
            path: The path below the prefix.
            kind: The request struct of the operation.
            items: The types of the stream's items.
            summary: One line for the documentation.
            description: More of it; by default the docstring of ``kind``.
            exclude: Fields that keep their default here.
            raises: The errors of this operation besides those that all have.
            descriptions: What the documentation says about fields.
        """
        from coordinator.api.streaming import answer_stream

        shape = _Shape("GET", path, kind, set(exclude), set())

        async def serve(request: Request, body: Struct) -> Response:
            return await answer_stream(request, body, items)

        endpoint = shape.endpoint(serve, descriptions or {}, None)
        self.router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            summary=summary,
            description=description or kind.__doc__,
            operation_id=operation_id(kind),
            responses=documented(stream_content(items), 200, [*ALWAYS, *raises]),
            response_model=None,
        )


def stream_content(items: Sequence[type[Struct]]) -> dict[str, Any]:
    """Document the two formats of a stream; in both, an item is one of ``items`` as JSON."""
    for item in items:
        _ANSWERS[item.__name__] = item
    refs = [{"$ref": f"#/components/schemas/{item.__name__}"} for item in items]
    text = {"schema": {"type": "string", "description": "Events; their data is an item."}}
    return {"text/event-stream": text, "application/x-ndjson": {"schema": {"anyOf": refs}}}


def operation_id(kind: type[Struct]) -> str:
    """Name an operation for the documentation, after its tag."""
    return str(kind.__struct_config__.tag).replace(".", "_")


class _Shape:
    """Where each field of one operation travels."""

    def __init__(
        self, method: str, path: str, kind: type[Struct], exclude: set[str], query: set[str]
    ) -> None:
        self.kind = kind
        fields = [name for name in models.field_names(kind) if name not in exclude]
        in_path = set(re.findall(r"{(\w+)(?::\w+)?}", path))
        assert in_path <= set(fields), (path, fields)
        has_body = method not in ("GET", "DELETE")
        self.path = [name for name in fields if name in in_path]
        rest = [name for name in fields if name not in in_path]
        self.query = [name for name in rest if not has_body or name in query]
        self.body = [name for name in rest if name not in self.query]
        self.readers: dict[str, Callable[[Any], Any]] = {}

    def endpoint(
        self,
        serve: Callable[[Request, Struct], Awaitable[Response]],
        descriptions: Mapping[str, str],
        example: Mapping[str, Any] | None,
    ) -> Callable[..., Any]:
        """Make the function that FastAPI calls; it reads its signature to know the fields."""
        arguments = [
            Argument("request", Argument.KEYWORD_ONLY, annotation=Request),
            *(self._argument(name, descriptions.get(name)) for name in (*self.path, *self.query)),
        ]
        if self.body:
            arguments.append(self._body(descriptions, example))
        kind, readers = self.kind, self.readers

        async def endpoint(request: Request, **values: Any) -> Response:
            body = values.pop("body", None)
            for name, read in readers.items():
                values[name] = read(values[name])
            return await serve(request, models.struct_of(kind, body, **values))

        endpoint.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
        endpoint.__name__ = operation_id(kind)
        return endpoint

    def _argument(self, name: str, description: str | None) -> Argument:
        found = models.parameter(self.kind, name)
        if found.read is not None:
            self.readers[name] = found.read
        kind: Any = found.annotation
        annotation: Any = Annotated[kind, Path(description=description)]
        if name in self.path:
            return Argument(name, Argument.KEYWORD_ONLY, annotation=annotation)
        annotation = Annotated[kind, Query(description=description)]
        default: Any = Argument.empty
        if name == "namespace":
            default = DEFAULT_NAMESPACE
        elif found.default is not None:
            default = found.default()
        return Argument(name, Argument.KEYWORD_ONLY, annotation=annotation, default=default)

    def _body(self, descriptions: Mapping[str, str], example: Mapping[str, Any] | None) -> Argument:
        others = [name for name in models.field_names(self.kind) if name not in self.body]
        model = models.body_model(
            self.kind, exclude=others, descriptions=descriptions, example=example
        )
        default: Any = Argument.empty
        if not any(field.is_required() for field in model.model_fields.values()):
            default = model()
        return Argument(
            "body", Argument.KEYWORD_ONLY, annotation=Annotated[model, Body()], default=default
        )
