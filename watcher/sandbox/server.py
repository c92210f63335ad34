"""Runs the sandbox's server on one port of 127.0.0.1: moto with its replaced parts, and the control API."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.end_signals import on_end_signals
from watcher.errors import UsageError
from watcher.sandbox import environment
from watcher.sandbox.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"


def serve(port: int = 0, pace: float = 1.0) -> None:
    """Run a sandbox in the foreground until SIGINT or SIGTERM; print the environment to export.

    Port 0 means any free port. Raises `UsageError` if the port is taken.
    """
    ending = threading.Event()
    on_end_signals(ending.set)
    settings = Settings(pace=pace)
    with running(settings, port) as (endpoint, directory):
        print(environment.exports(environment.variables(endpoint, settings.region, directory)), flush=True)  # noqa: T201
        port = int(endpoint.rpartition(":")[2])
        print(  # noqa: T201
            f"# The sandbox is ready: {endpoint}/sandbox shows its jobs, and Ctrl-C ends it.\n"
            f'# In another terminal: eval "$(watcher sandbox --print-env --port {port})"',
            file=sys.stderr,
            flush=True,
        )
        ending.wait()


@contextmanager
def running(settings: Settings, port: int) -> Iterator[tuple[str, Path]]:
    """Run a sandbox in this process. Yields its endpoint, and the directory of its files. A process can run
    only one, because moto's state is global."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler
    from werkzeug.serving import make_server

    from watcher.sandbox import account, dispatch
    from watcher.sandbox.aws import dynamodb, iam, logs, metrics, simulation, sqs
    from watcher.sandbox.control_api import ControlApi, close_all_runners
    from watcher.sandbox.fault_injection import Faults
    from watcher.sandbox.missing import OneSentence, create_app
    from watcher.sandbox.publisher import Publisher
    from watcher.sandbox.sagemaker.api import BackendContext, install

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs each request otherwise
    with (
        _listen(port) as listening,
        tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as temporary,
    ):
        directory = Path(temporary)
        publisher = Publisher()
        faults = Faults(OneSentence(DomainDispatcherApplication(create_app)))
        endpoint = f"http://{HOST}:{listening.getsockname()[1]}"
        variables = environment.variables(endpoint, settings.region, directory)
        control = ControlApi(faults, publisher, settings.region, variables)
        environment.write_sdk_config(directory)
        server = make_server(
            HOST,
            port,
            _dispatch(control, faults),
            threaded=True,
            request_handler=MotoRequestHandler,
            fd=listening.fileno(),
        )
        account.install()
        dispatch.install()
        dynamodb.install()
        iam.install()
        logs.install()
        metrics.install()
        simulation.install()
        sqs.install()
        install(BackendContext(settings, endpoint, directory, publisher))
        account.prepare(settings.region)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="server", daemon=True)
        thread.start()
        try:
            yield endpoint, directory
        finally:
            close_all_runners()
            server.shutdown()
            thread.join()
            server.server_close()


def _listen(port: int) -> socket.socket:
    """The socket. Werkzeug gets an open one, because it ends the process if it cannot listen."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else error  # Python adds the address in its own notation
        raise UsageError(
            f"the sandbox cannot listen on port {port} ({why}): choose another --port"
        ) from error


def _dispatch(control: WSGIApplication, aws: WSGIApplication) -> WSGIApplication:
    """Unsigned requests below `/sandbox` go to the control API, all others to AWS's; those that a web page
    sends are refused."""
    from watcher.sandbox.browsers import refusal
    from watcher.sandbox.control_api import refuse

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if sentence := refusal(environ):
            refused: WSGIApplication = refuse(sentence)
            return refused(environ, start_response)
        path = environ["PATH_INFO"]
        below = path == "/sandbox" or path.startswith("/sandbox/")
        chosen = control if below and "HTTP_AUTHORIZATION" not in environ else aws
        return chosen(environ, start_response)

    return application
