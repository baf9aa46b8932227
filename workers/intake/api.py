"""The HTTP intake's application: thin, for those without a client of a broker.

Starlette and not a larger framework: the body must be bounded while it arrives, before anything
parses it, and errors must be our one sentence. That leaves routing, which Starlette has.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.db import queries
from pipeline.errors import ConfigurationError, TransientError
from pipeline.runner import control
from pipeline.runner.runtime import Runtime
from workers.intake.handler import REFUSED_ERRORS, bounded_key, handle_job_message
from workers.intake.openapi import (
    ACTIONS,
    Health,
    JobAnswer,
    JobState,
    Problem,
    openapi_document,
)

#: For the whole body of a request.
BODY_SECONDS = 30
RETRY_AFTER_SECONDS = 5
#: Longer numbers are no ids on any database.
MAX_JOB_ID = 2**62

Endpoint = Callable[[Request], Awaitable[Response]]


def make_api(runtime: Runtime) -> Starlette:
    """The application; calls of one job each go through a thread, the database blocks."""
    tokens = runtime.settings.intake.http_tokens
    max_bytes = runtime.settings.intake.max_message_bytes
    document = openapi_document()
    actions: Mapping[str, Callable[[int], object]] = {
        "cancel": lambda job_id: control.cancel(runtime.database, job_id),
        "pause": lambda job_id: control.pause(runtime.database, job_id),
        "resume": lambda job_id: control.resume(runtime.database, job_id),
        "retry": lambda job_id: control.retry(runtime.database, job_id=job_id),
    }

    async def submit(request: Request) -> Response:
        _check_content_type(request)
        body = await _read_body(request, max_bytes)
        given = request.headers.get("idempotency-key")
        accepted = await run_in_threadpool(
            handle_job_message,
            runtime,
            body,
            "http",
            key=bounded_key(f"http:{given}") if given else None,
        )
        return _json(
            JobAnswer(job_id=accepted.job_id, is_new=accepted.is_new),
            202 if accepted.is_new else 200,
            {"location": f"/v1/jobs/{accepted.job_id}"},
        )

    async def show(request: Request) -> Response:
        return _json(await run_in_threadpool(_job_state, runtime, _job_id(request)))

    async def act(request: Request) -> Response:
        def do() -> JobState:
            # First, so that one that does not exist is told from one that cannot.
            job_id = _job_state(runtime, _job_id(request)).job_id
            actions[request.path_params["action"]](job_id)
            return _job_state(runtime, job_id)

        if request.path_params["action"] not in ACTIONS:
            raise HTTPException(404, "there is nothing here")
        return _json(await run_in_threadpool(do))

    async def openapi(_request: Request) -> Response:
        return JSONResponse(document)

    async def health(_request: Request) -> Response:
        return _json(Health(status="ok"))

    return Starlette(
        routes=[
            Route("/v1/jobs", _guarded(submit, tokens), methods=["POST"]),
            Route("/v1/jobs/{job_id:int}", _guarded(show, tokens), methods=["GET"]),
            Route("/v1/jobs/{job_id:int}/{action}", _guarded(act, tokens), methods=["POST"]),
            Route("/v1/openapi.json", openapi, methods=["GET"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: _on_http_error,
            **dict.fromkeys(REFUSED_ERRORS, _on_invalid),
            TransientError: _on_transient,
            Exception: _on_bug,
        },
    )


def _guarded(endpoint: Endpoint, tokens: Sequence[SecretStr]) -> Endpoint:
    known = [token.get_secret_value().encode() for token in tokens]

    async def guarded(request: Request) -> Response:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        # Headers are Latin-1. Every token is compared, whichever fits.
        fits = [hmac.compare_digest(shown.strip().encode("latin-1"), each) for each in known]
        if scheme.lower() != "bearer" or not any(fits):
            raise HTTPException(
                401,
                "show one of the intake's tokens: `Authorization: Bearer …`",
                {"www-authenticate": "Bearer"},
            )
        return await endpoint(request)

    return guarded


def _check_content_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "send the message as `Content-Type: application/json`")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The body, bounded in size and time while it arrives."""
    too_long = HTTPException(413, f"the message is longer than {max_bytes} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_long
    except TimeoutError as error:
        raise HTTPException(408, f"the body took longer than {BODY_SECONDS} seconds") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the client left in the middle of the body") from error
    return bytes(body)


def _job_id(request: Request) -> int:
    job_id: int = request.path_params["job_id"]
    return job_id


def _job_state(runtime: Runtime, job_id: int) -> JobState:
    if job_id > MAX_JOB_ID:
        raise HTTPException(404, f"there is no job {job_id}")
    with runtime.database.reading() as connection:
        try:
            row = queries.job_row(connection, job_id)
        except ConfigurationError as error:
            raise HTTPException(404, f"there is no job {job_id}") from error
    return JobState(**row)


async def _on_http_error(_request: Request, error: Any) -> Response:
    # The rest of a request that was broken off is not read.
    headers = {**(error.headers or {}), "connection": "close"}
    return _json(Problem(error=error.detail), error.status_code, headers)


async def _on_invalid(_request: Request, error: Any) -> Response:
    return _json(Problem(error=str(error)), 400)


async def _on_transient(_request: Request, error: Any) -> Response:
    return _json(Problem(error=str(error)), 503, {"retry-after": str(RETRY_AFTER_SECONDS)})


async def _on_bug(_request: Request, _error: Any) -> Response:
    # The server logs the exception itself.
    return _json(Problem(error="mediaweave failed on it; its log says why"), 500)


def _json(
    content: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(content.model_dump(mode="json"), status, headers)
