"""The two IAM calls of `watcher check`, on loopback, with the answers that a test wants:
`SimulatePrincipalPolicy` (what a role's policies allow) and `GetRole` (which role a session belongs to).

    with IamDouble({"arn:aws:iam::123456789012:role/teams/watcher": {"sagemaker:StopTrainingJob"}}) as iam:
        os.environ["AWS_ENDPOINT_URL_IAM"] = iam.endpoint

It knows only the given principals. For others it answers `NoSuchEntity`, as IAM does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs

XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/"


class IamDouble:
    def __init__(self, allowed: Mapping[str, Set[str]]) -> None:
        """`allowed` maps the ARN of each principal to the actions that its policies allow."""
        self.allowed = allowed

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
                status, answer = self._answer({key: values[0] for key, values in parse_qs(body).items()})
                handler.send_response(status)
                handler.send_header("Content-Type", "text/xml")
                handler.send_header("Content-Length", str(len(answer.encode())))
                handler.end_headers()
                handler.wfile.write(answer.encode())

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, form: Mapping[str, str]) -> tuple[int, str]:
        match form["Action"]:
            case "GetRole":
                arn = next((arn for arn in self.allowed if arn.endswith(f"/{form['RoleName']}")), "")
                result = (
                    f"<Role><Arn>{arn}</Arn><RoleName>{form['RoleName']}</RoleName><RoleId>AROA</RoleId>"
                    "<Path>/</Path><CreateDate>2026-11-20T12:00:00Z</CreateDate></Role>"
                )
            case "SimulatePrincipalPolicy":
                arn = form["PolicySourceArn"]
                action = form["ActionNames.member.1"]
                decision = "allowed" if action in self.allowed.get(arn, ()) else "implicitDeny"
                result = (
                    f"<EvaluationResults><member><EvalActionName>{action}</EvalActionName>"
                    f"<EvalDecision>{decision}</EvalDecision></member></EvaluationResults>"
                )
            case action:
                raise NotImplementedError(action)
        if arn not in self.allowed:
            return 404, (
                f'<ErrorResponse xmlns="{XMLNS}"><Error><Type>Sender</Type><Code>NoSuchEntity</Code>'
                "<Message>It cannot be found.</Message></Error><RequestId>1</RequestId></ErrorResponse>"
            )
        name = form["Action"]
        return 200, (
            f'<{name}Response xmlns="{XMLNS}"><{name}Result>{result}</{name}Result>'
            f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{name}Response>"
        )

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
