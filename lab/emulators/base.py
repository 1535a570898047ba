"""What every emulator shares: routes, the record of calls, the fault switches, the control API, the description check.

A request goes this way:

    control API? -> fault? -> (before) -> lock -> route -> access -> description -> handler -> description -> answer

Control API, neither recorded nor faulted:

    GET    /_lab/calls        what was asked: method, path, query, status, write
    DELETE /_lab/calls        forget it
    GET    /_lab/counts       {"reads": n, "writes": n}
    GET    /_lab/faults       the switches that are set; PUT a JSON list replaces them; DELETE clears them
    GET    /_lab/violations   where a request or an answer didn't match the API's description
    GET    /_lab/state        the state, without its secrets
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from lab.emulators.description import Description, specs
from lab.emulators.faults import Fault, FaultBox, cut_socket, echo_of, half_of
from lab.emulators.serving import running, serve_forever

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Answer", "ApiError", "Emulator", "Fault", "route", "running", "serve_forever", "specs"]

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | Response
"""What a handler returns: (status, JSON body or None), the same with headers, or a whole response."""

READS = frozenset({"GET", "HEAD", "OPTIONS"})
SECRET_PARAMETERS = frozenset({"token", "key", "password", "secret", "access_token", "client_secret"})

Handler = TypeVar("Handler", bound=Callable[..., Any])


class ApiError(Exception):
    """An answer that a handler raises: a status, a JSON body (or text), headers."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.headers = headers or {}


class BadJson(ApiError):
    """The request's body isn't JSON; each system says so in its own words (``Emulator.bad_json``)."""


def route(method: str, rule: str) -> Callable[[Handler], Handler]:
    """Serve ``method`` on a werkzeug routing ``rule`` such as ``/v1/zones/<zone>``; may be stacked."""

    def mark(handler: Handler) -> Handler:
        marks: list[tuple[str, str]] = [*getattr(handler, "_routes", []), (method.upper(), rule)]
        handler._routes = marks  # type: ignore[attr-defined]
        return handler

    return mark


class Emulator:
    """A WSGI app that answers as ``system`` does, from ``self.state``.

    Handlers run one at a time, under ``self.lock``, and reach data through ``self.state`` only, so that a "stale" fault
    can put an older state in its place.
    """

    fault_kinds: ClassVar[frozenset[str]] = frozenset()
    """Kinds of fault of this system alone; its handlers look at ``self.fault``."""

    relaxations: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(regular expression, why): problems of the description check to pass over, as ``METHOD /path: problem``."""

    strict_slashes: ClassVar[bool] = False

    same_method: ClassVar[dict[str, str]] = {}
    """Methods that the system takes for another: the description is asked about the other."""

    def __init__(self, system: str, description: pathlib.Path | None = None, api_prefix: str = "") -> None:
        self.system = system
        self.api_prefix = api_prefix
        self.state: Any = {}
        self.lock = threading.RLock()
        self.calls: list[dict[str, Any]] = []
        self.violations: list[dict[str, Any]] = []
        self.fault: Fault | None = None
        self.faults = FaultBox(self.fault_kinds)
        self.description = Description(description, api_prefix, self.relaxations) if description else None
        self._routes = self._collect_routes()

    # What a system overrides.

    def before(self, request: Request) -> None:
        """Called outside the lock, before anything else is done: the place to wait in (blocking queries)."""

    def check_access(self, request: Request) -> None:
        """Raise ApiError when the caller may not; called for every routed call, under the lock."""

    def rate_limited(self) -> Answer:
        """The system's own 429."""
        return 429, {"detail": "Request was throttled."}, {"Retry-After": "1"}

    def not_found(self, request: Request) -> Answer:
        """The system's own 404 for a path that it doesn't have."""
        return 404, {"detail": "Not found."}

    def not_allowed(self, request: Request) -> Answer:
        """The system's own 405."""
        return 405, {"detail": f'Method "{request.method}" not allowed.'}

    def bad_request(self, problems: list[str]) -> Answer:
        """The answer to a request that its API description doesn't allow."""
        return 422, {"emulator": "request does not match the API description", "problems": problems}

    def bad_json(self, message: str) -> Answer:
        """The answer to a body that isn't JSON."""
        return 400, {"detail": message}

    def finish(self, request: Request, response: Response) -> Response:
        """The last word on every answer, under the lock: the place for headers that each one carries."""
        return response

    def public_state(self) -> Any:
        """The state as /_lab/state shows it: override it to leave secrets out."""
        return self.state

    def close(self) -> None:
        """Let go of what the emulator started (processes, sockets)."""

    # Faults.

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Replace the fault switches; a "stale" one keeps the state as it is now."""
        with self.lock:
            self.faults.replace(faults, lambda: copy.deepcopy(self.state))

    # WSGI.

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        request.get_data(cache=True)
        if request.path.startswith("/_lab/"):
            return self._control(request)(environ, start_response)
        with self.lock:
            fault, stale = self.faults.take(request.method, request.path)
        kind = fault.kind if fault else ""
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        if kind == "cut":
            self._record(request, 0)
            raise cut_socket(environ)
        response = self._answer(request, fault, stale)
        if kind == "lost-answer":
            raise cut_socket(environ)
        if kind == "half-body":
            response = half_of(response, environ)
        return response(environ, start_response)

    def _answer(self, request: Request, fault: Fault | None, stale: Any) -> Response:
        if fault is None or fault.kind not in ("status", "echo", "rate-limit"):
            self.before(request)
        with self.lock:
            if fault and fault.kind == "status":
                response = to_response((fault.status, fault.body))
            elif fault and fault.kind == "echo":
                response = echo_of(request, fault.status)
            elif fault and fault.kind == "rate-limit":
                response = to_response(self.rate_limited())
            elif fault and fault.kind == "stale" and request.method in READS:
                response = self._act_stale(request, stale)
            else:
                response = self._act(request, fault)
            response = self.finish(request, response)
            self._record(request, response.status_code)
        return response

    def _act_stale(self, request: Request, stale: Any) -> Response:
        now, self.state = self.state, stale
        try:
            return self._act(request, None)
        finally:
            self.state = now

    def _act(self, request: Request, fault: Fault | None) -> Response:
        """Route, check and handle one request; the caller holds the lock."""
        self.fault = fault
        try:
            return self._dispatch(request)
        except BadJson as error:
            return to_response(self.bad_json(str(error.body)))
        except ApiError as error:
            return self._checked(request, to_response((error.status, error.body, error.headers)))
        finally:
            self.fault = None

    def _dispatch(self, request: Request) -> Response:
        try:
            name, arguments = self._routes.bind_to_environ(request.environ).match()
        except NotFound:
            return self._unrouted(request, self.not_found)
        except MethodNotAllowed:
            return self._unrouted(request, self.not_allowed)
        self.check_access(request)
        problems = self._request_problems(request)
        if problems:
            self._violation("request", request, problems)
            return to_response(self.bad_request(problems))
        return self._checked(request, to_response(getattr(self, name)(request, **arguments)))

    def _unrouted(self, request: Request, otherwise: Callable[[Request], Answer]) -> Response:
        """404 or 405; but what the API has and the emulator lacks must not look like an absent object."""
        if self._described(request) and self.description and self.description.has(request.method, request.path):
            problem = "the API has this operation, the emulator doesn't"
            self._violation("request", request, [problem])
            return to_response((501, {"emulator": problem}))
        return to_response(otherwise(request))

    def _described(self, request: Request) -> bool:
        return self.description is not None and request.path.startswith(self.api_prefix + "/")

    def _request_problems(self, request: Request) -> list[str]:
        if not self.description or not self._described(request) or request.method in ("HEAD", "OPTIONS"):
            return []
        body = json_body(request)
        method = self.same_method.get(request.method, request.method)
        return self.description.check_request(method, request.path, request.args.to_dict(flat=False), body)

    def _checked(self, request: Request, response: Response) -> Response:
        if not self.description or not self._described(request) or request.method in ("HEAD", "OPTIONS"):
            return response
        body = response.get_json() if response.is_json and response.get_data() else None
        method = self.same_method.get(request.method, request.method)
        problems = self.description.check_answer(method, request.path, response.status_code, body)
        if problems:
            self._violation("answer", request, problems)
        return response

    def _violation(self, side: str, request: Request, problems: list[str]) -> None:
        found = {"side": side, "method": request.method, "path": request.path, "problems": problems}
        self.violations.append(found)

    def _record(self, request: Request, status: int) -> None:
        """Note one call: never its headers, its body, or a query parameter that holds a secret. 0: no answer."""
        query = "&".join(
            f"{key}={'***' if key.lower() in SECRET_PARAMETERS else value}"
            for key, value in request.args.items(multi=True)
        )
        with self.lock:
            self.calls.append({"method": request.method, "path": request.path, "query": query,
                               "status": status, "write": request.method not in READS})  # fmt: skip

    def _collect_routes(self) -> Map:
        rules = [
            Rule(rule, methods=[method], endpoint=name)
            for name in dir(type(self))
            for method, rule in getattr(getattr(type(self), name), "_routes", [])
        ]
        return Map(rules, strict_slashes=self.strict_slashes, merge_slashes=False)

    # The control API.

    def _control(self, request: Request) -> Response:
        what = (request.method, request.path.removeprefix("/_lab/"))
        with self.lock:
            match what:
                case ("GET", "calls"):
                    return to_response((200, self.calls))
                case ("DELETE", "calls"):
                    self.calls.clear()
                    return to_response((204, None))
                case ("GET", "counts"):
                    writes = sum(1 for call in self.calls if call["write"])
                    return to_response((200, {"reads": len(self.calls) - writes, "writes": writes}))
                case ("GET", "violations"):
                    return to_response((200, self.violations))
                case ("GET", "state"):
                    return to_response((200, self.public_state()))
                case (_, "faults"):
                    return self._control_faults(request)
        return to_response((404, {"emulator": "no such control"}))

    def _control_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.set_faults([])
        elif request.method == "PUT":
            try:
                self.set_faults([Fault(**item) for item in json.loads(request.get_data())])
            except (TypeError, ValueError) as error:
                return to_response((400, {"emulator": f"not a list of faults: {error}"}))
        return to_response((200, self.faults.as_list()))


def json_body(request: Request) -> Any:
    """The request's JSON body, whatever its content type says; None when empty; 400 when it isn't JSON."""
    data = request.get_data(cache=True)
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadJson(400, f"JSON parse error - {error}") from error


def to_response(answer: Answer) -> Response:
    """Turn what a handler returned into a response; text bodies go out as text, None as no body."""
    if isinstance(answer, Response):
        return answer
    status, body = answer[0], answer[1]
    headers = answer[2] if len(answer) == 3 else {}
    if body is None:
        return Response(status=status, headers=headers)
    if isinstance(body, str):
        return Response(body, status=status, headers=headers, mimetype="text/plain")
    return Response(json.dumps(body, default=_plain), status=status, headers=headers, mimetype="application/json")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)
