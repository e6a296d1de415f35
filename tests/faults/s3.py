"""An S3 server of this machine, and a line to it that may be bad."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time


REPLY = (
    "HTTP/1.1 {code} Out Of Order\r\nContent-Type: application/xml\r\nContent-Length: {size}\r\n"
    "Connection: close\r\n\r\n{body}"
)
BODY = "<?xml version='1.0'?><Error><Code>{name}</Code><Message>a story</Message></Error>"
ERRORS = {500: "InternalError", 503: "SlowDown"}


class Line:
    """Passes connections on to a port: as they are, late, or answered by an error instead."""

    def __init__(self, port: int):
        self.behind = port
        self.error: int | None = None
        self.delay_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="line")
        self._talks: list[threading.Thread] = []
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        for talk in self._talks:
            talk.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.1)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                talk = threading.Thread(target=self._talk, args=(client,), name="talk")
                self._talks = [each for each in self._talks if each.is_alive()] + [talk]
                talk.start()

    def _talk(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", self.behind)) as server,
            selectors.DefaultSelector() as either,
            contextlib.suppress(ConnectionError),
        ):
            either.register(client, selectors.EVENT_READ, server)
            either.register(server, selectors.EVENT_READ, client)
            while not self._closed.is_set():
                for ready, _ in either.select(0.1):
                    said = ready.fileobj.recv(1 << 16)  # ty: ignore[missing-attribute]
                    if not said:
                        return
                    if ready.fileobj is client and self.error is not None:
                        client.sendall(refusal(self.error))
                        return
                    if ready.fileobj is client:
                        time.sleep(self.delay_s)
                    ready.data.sendall(said)


def refusal(code: int) -> bytes:
    body = BODY.format(name=ERRORS[code])
    return REPLY.format(code=code, size=len(body), body=body).encode()
