"""A small Cloud Storage on the loopback, in memory: the requests that runs make, with true preconditions.

It follows https://cloud.google.com/storage/docs/json_api/v1. Any credentials are accepted, and listings are
one page.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

VARIABLES = {
    "NO_GCE_CHECK": "true",
    "GCE_METADATA_HOST": "127.0.0.1:9",
    "GCE_METADATA_IP": "127.0.0.1:9",
    "GCE_METADATA_ROOT": "127.0.0.1:9",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    "GOOGLE_CLOUD_PROJECT": "none",
}
"""Of the environment: nobody is asked for credentials, so no connection leaves the machine."""

Reply = tuple[int, dict[str, str], bytes]


class Object(NamedTuple):
    """What is stored under a name."""

    content: bytes
    generation: int


class Bucket:
    """Objects by name, and uploads in parts."""

    def __init__(self, name: str):
        self.name = name
        self.objects: dict[str, Object] = {}
        self._uploads: dict[str, tuple[str, dict[str, str], bytearray]] = {}
        self._generation = 0
        self._one_at_a_time = threading.Lock()

    def reply(self, method: str, url: str, headers: Any, body: bytes) -> Reply:
        """To one request, atomically."""
        path, query = urlsplit(url).path, dict(parse_qsl(urlsplit(url).query))
        found = re.fullmatch(
            r"(?:/(upload|download))?/storage/v1/b/([^/]+)(?:/o(?:/([^/]+))?)?(?:/(.*))?", path
        )
        if not found:
            return 501, {}, b""
        kind, bucket, name, action = found.groups()
        if unquote(bucket) != self.name:
            return 404, {}, b""
        with self._one_at_a_time:
            if kind == "upload":
                return self._upload(query, headers, body)
            if name is None:
                return self._list(query) if path.endswith("/o") else _json({"name": self.name})
            return self._object(method, unquote(name), action, query, headers, body)

    def _object(
        self, method: str, name: str, action: str | None, query: dict[str, str], headers: Any, body: bytes
    ) -> Reply:
        if action == "compose":
            parts = [self.objects.get(each["name"]) for each in json.loads(body)["sourceObjects"]]
            if None in parts:
                return 404, {}, b""
            return self._put(name, b"".join(part.content for part in parts if part), query)
        if name not in self.objects:
            return 404, {}, b""
        if action:
            return 501, {}, b""
        if not self._holds(name, query):
            return 412, {}, b""
        if query.get("ifGenerationNotMatch") == str(self.objects[name].generation):
            return 304, {}, b""
        if method == "DELETE":
            del self.objects[name]
            return 204, {}, b""
        return self._download(name, headers) if query.get("alt") == "media" else _json(self._metadata(name))

    def _download(self, name: str, headers: Any) -> Reply:
        content, generation = self.objects[name]
        told = {"x-goog-generation": str(generation), "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
        if not wanted or wanted[0] == "bytes=-":
            return 200, told, content
        first, last = wanted.groups()
        start = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        if start >= len(content):
            return 416, {}, b""
        return 206, told | {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}, content[start:end]

    def _upload(self, query: dict[str, str], headers: Any, body: bytes) -> Reply:
        if query.get("upload_id") in self._uploads:
            return self._part(query["upload_id"], headers["Content-Range"], body)
        if query["uploadType"] == "media":
            return self._put(query["name"], body, query)
        if query["uploadType"] == "resumable":
            number = str(len(self._uploads))
            name = query.get("name") or json.loads(body)["name"]
            self._uploads[number] = (name, query, bytearray())
            where = f"http://{headers['Host']}/upload/storage/v1/b/{self.name}/o?upload_id={number}"
            return 200, {"Location": where}, b""
        boundary = re.search('boundary="?([^";]+)', headers["Content-Type"])
        assert boundary
        _, about, content, _ = re.split(b"(?:^|\r?\n)--" + re.escape(boundary[1].encode()), body)
        about, content = (re.split(b"\r?\n\r?\n", part, maxsplit=1)[1] for part in (about, content))
        return self._put(json.loads(about)["name"], content, query)

    def _part(self, number: str, place: str, body: bytes) -> Reply:
        name, query, content = self._uploads[number]
        if start := re.match(r"bytes (\d+)-", place):
            content[int(start[1]) :] = body
        if place.endswith("/*"):
            return 308, {"Range": f"bytes=0-{len(content) - 1}"}, b""
        if len(content) < int(place.split("/")[1]):
            return 308, {"Range": f"bytes=0-{len(content) - 1}"}, b""
        return self._put(name, bytes(content), query)

    def _put(self, name: str, content: bytes, query: dict[str, str]) -> Reply:
        if not self._holds(name, query):
            return 412, {}, b""
        self._generation += 1
        self.objects[name] = Object(content, self._generation)
        return _json(self._metadata(name))

    def _holds(self, name: str, query: dict[str, str]) -> bool:
        """Whether the precondition of a request is met; generation 0 is that of no object."""
        now = str(self.objects[name].generation) if name in self.objects else "0"
        return query.get("ifGenerationMatch", now) == now

    def _list(self, query: dict[str, str]) -> Reply:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name in sorted(self.objects):
            if not name.startswith(prefix) or name < query.get("startOffset", ""):
                continue
            if "endOffset" in query and name >= query["endOffset"]:
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                prefixes.add(prefix + head + cut)
            else:
                items.append(self._metadata(name))
        return _json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _metadata(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": self.name,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(content)),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2025-01-01T00:00:00.000Z",
            "updated": "2025-01-01T00:00:00.000Z",
        }


def _json(content: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def serve(name: str, port: int = 0) -> Iterator[tuple[Bucket, dict[str, str]]]:
    """A bucket, and the variables of the environment by which clients find it."""
    bucket = Bucket(name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = bucket.reply(self.command, self.path, self.headers, body)
            self.send_response(status)
            for each in headers.items():
                self.send_header(*each)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def handle(self) -> None:
            with suppress(ConnectionError):  # gcsfs hangs up on requests that it no longer needs
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield bucket, VARIABLES | {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
        server.shutdown()
