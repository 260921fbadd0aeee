"""A model hub on loopback, complete enough for the client of huggingface_hub."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class TinyHub:
    """The files of a hub, and the requests it received.

    Attributes:
        files: Contents by ``owner/name/path``.
        gated: Repositories that need access rights.
        wrong: Files whose checksum the hub states wrongly.
        requests: Paths of the requests, in order.
        url: Of the running hub.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, repository: str, folder: Path) -> None:
        """Offer all files below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{repository}/{path.relative_to(folder)}"] = path.read_bytes()


@contextmanager
def tiny_hub() -> Iterator[TinyHub]:
    """Run a hub until the block ends."""
    hub = TinyHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            hub.requests.append("/".join(parts))
            if parts[:2] == ["api", "models"]:
                repository = "/".join(parts[2:4])
                names = [name for name in hub.files if name.startswith(f"{repository}/")]
                siblings = [self.describe(repository, name) for name in names]
                content = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings})
                self.reply(200 if names else 404, content.encode(), repository, body)
            else:
                repository, name = "/".join(parts[:2]), "/".join(parts[:2] + parts[4:])
                data = hub.files.get(name)
                self.reply(404 if data is None else 200, data or b"", repository, body)

        def describe(self, repository: str, name: str) -> dict[str, object]:
            data = hub.files[name]
            sibling = {"rfilename": name.removeprefix(f"{repository}/"), "size": len(data)}
            digest = sha256(b"other" if name in hub.wrong else data).hexdigest()
            if name.endswith(("safetensors", ".pt", ".ckpt")):
                lfs = {"sha256": digest, "size": len(data), "pointerSize": 130}
                return sibling | {"lfs": lfs}
            return sibling

        def reply(self, code: int, content: bytes, repository: str, body: bool) -> None:
            gated = repository in hub.gated
            self.send_response(403 if gated else code)
            if gated:
                self.send_header("X-Error-Code", "GatedRepo")
                content = b""
            elif code == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
