"""A server on this machine that speaks as much of S3 as s3_fetch.py needs."""

import hashlib
import http.server
import re
import threading
import urllib.parse

_ERROR = "<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


class FakeS3:
    """`objects`: (bucket, key) to content. `requests`: (path, Authorization, Range) of each."""

    def __init__(self):
        self.objects = {}
        self.public = set()  # buckets
        self.requests = []
        self.failures = []  # (status, code), given to the next requests
        self.cut = []  # bytes after which the next answers end
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = "http://127.0.0.1:%d" % self._server.server_port

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        authorization = self.headers.get("Authorization", "")
        wanted = self.headers.get("Range", "")
        self.store.requests.append((self.path, authorization, wanted))
        bucket, _, key = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/").partition("/")
        if self.store.failures:
            return self.fail(*self.store.failures.pop(0))
        if bucket not in {name for name, _ in self.store.objects}:
            return self.fail(404, "NoSuchBucket")
        if bucket not in self.store.public:
            if not authorization:
                return self.fail(403, "AccessDenied")
            if "Credential=known/" not in authorization:
                return self.fail(403, "InvalidAccessKeyId")
        content = self.store.objects.get((bucket, key))
        if content is None:
            return self.fail(404, "NoSuchKey")
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1)) if wanted else 0
        if begin and begin >= len(content):
            return self.fail(416, "InvalidRange")
        self.send_response(206 if begin else 200)
        self.send_header("ETag", '"%s"' % hashlib.md5(content).hexdigest())
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(content) - 1, len(content)))
        self.end_headers()
        end = len(content)
        if self.store.cut:
            end = min(end, begin + self.store.cut.pop(0))
            self.close_connection = True
        self.wfile.write(content[begin:end])

    def fail(self, status, code):
        body = (_ERROR % (code, code)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
