"""A server that speaks the Hugging Face hub's protocol, for tests: on this machine, on a free port.

    with FakeHub() as hub:
        hub.add("org/name", COMMIT, {"config.json": b"{}"}, large={"model.safetensors": b"..."})
        os.environ["HF_ENDPOINT"] = hub.endpoint

* GET /api/{models,datasets}/REPO/revision/REVISION: {"sha", "siblings"}
* GET /[datasets/]REPO/resolve/REVISION/PATH: small files themselves, with ETag; large ones as a redirect, with
  X-Linked-Etag (their sha256) and X-Linked-Size, to a second server, which must never see a token
* Range requests; X-Repo-Commit; 401, 403 and 404 with X-Error-Code
"""

import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def do_GET(self):
        self.server.answer(self)

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reply_with_file(self, body, faults, **headers):
        """The file, or the part that Range asks for; as `faults` says, less than was promised."""
        begin = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and "no_range" not in faults:
            begin = int(wanted.group(1))
            if begin >= len(body):
                self.reply(416)
                return
            headers["Content_Range"] = "bytes %d-%d/%d" % (begin, len(body) - 1, len(body))
        self.send_response(206 if begin else 200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        end = len(body)
        if "cut_off" in faults:
            end = min(end, begin + 1000)
        if "cut_off_once" in faults and not wanted:
            end = 1000
        self.wfile.write(body[begin:end])
        if end < len(body):
            self.close_connection = True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self):
        return "http://127.0.0.1:%d" % self.server_address[1]


class FakeHub:
    """The hub and the server of its large files."""

    def __init__(self):
        self.repos = {}  # "models/org/name" to {revision: {path: bytes}}
        self.large = {}  # sha256 to bytes
        self.token = None  # what every request to the hub must come with
        self.status = None  # (status, X-Error-Code) of every answer
        self.faults = set()
        self.requests = []  # (server, path, Authorization, Range)

    def __enter__(self):
        self._hub = _Server(self._answer)
        self._storage = _Server(self._answer_large)
        return self

    def __exit__(self, *_):
        for server in [self._hub, self._storage]:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self):
        return self._hub.address

    def add(self, repo, commit, files, large=None, kind="models", branch="main"):
        revisions = self.repos.setdefault(kind + "/" + repo, {})
        revisions[commit] = dict(files)
        for path, content in (large or {}).items():
            digest = hashlib.sha256(content).hexdigest()
            self.large[digest] = content
            revisions[commit][path] = digest
        revisions[branch] = commit

    def _note(self, server, handler):
        self.requests.append((server, handler.path, handler.headers.get("Authorization"), handler.headers.get("Range")))

    def _answer(self, handler):
        self._note("hub", handler)
        if self.status:
            handler.reply(self.status[0], X_Error_Code=self.status[1])
            return
        if self.token and handler.headers.get("Authorization") != "Bearer " + self.token:
            handler.reply(401)
            return
        path = urllib.parse.unquote(handler.path)
        api = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/revision/([^/]+)", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            key, revision, name = api.group(1), api.group(2), None
        elif file:
            key, revision, name = (file.group(1) or "models/") + file.group(2), file.group(3), file.group(4)
        else:
            handler.reply(400)
            return
        self._answer_repo(handler, key, revision, name)

    def _answer_repo(self, handler, key, revision, name):
        if key not in self.repos:
            handler.reply(404, X_Error_Code="RepoNotFound")
            return
        revisions = self.repos[key]
        commit = revisions.get(revision) if isinstance(revisions.get(revision), str) else revision
        if commit not in revisions:
            handler.reply(404, X_Error_Code="RevisionNotFound")
            return
        files = revisions[commit]
        if name is None:
            siblings = [{"rfilename": path} for path in sorted(files)]
            handler.reply(200, json.dumps({"id": key, "sha": commit, "siblings": siblings}).encode())
        elif name not in files:
            handler.reply(404, X_Error_Code="EntryNotFound")
        elif isinstance(files[name], str):
            digest = files[name]
            handler.reply(
                302,
                Location=self._storage.address + "/" + digest + "?signature=1",
                X_Linked_Etag='"%s"' % digest,
                X_Linked_Size=str(len(self.large[digest])),
                X_Repo_Commit="f" * 40 if "other_commit" in self.faults else commit)
        else:
            etag = '"%s"' % hashlib.sha1(files[name]).hexdigest()
            handler.reply_with_file(files[name], self.faults, ETag=etag, X_Repo_Commit=commit)

    def _answer_large(self, handler):
        self._note("storage", handler)
        content = self.large[handler.path[1:65]]
        if "spoilt" in self.faults:
            content = content[:-1] + b"?"
        handler.reply_with_file(content, self.faults, ETag='"%s"' % handler.path[1:65])
