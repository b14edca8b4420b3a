"""Gets pinned files of a repository on the Hugging Face hub, for the repository rule hf_assets and by hand.

    hf_fetch.py cached SPEC.json                                tells by its exit code whether no network is needed
    hf_fetch.py fetch [--client CONSTANTS] SPEC.json DIRECTORY
    hf_fetch.py pin [--client CONSTANTS] [--repo_type dataset] [--revision main] REPO FILE...

SPEC.json: {"repo": "org/name", "repo_type": "model", "revision": "<commit>", "files": {"path": "<sha256>"}}.

A file comes from our own store, from the cache of the hub's client, or from the hub, and counts only if its sha256 is
the pinned one. Needs Python 3.8 and nothing else. Every failure is one line: what, why, and what to do; exit code 1.
"""

import argparse
import ast
import contextlib
import difflib
import errno
import fcntl
import hashlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60
# Waits before another attempt; it is given up after as many attempts in a row that brought nothing.
WAITS_S = [1, 4, 15]

_KINDS = {"model": "", "dataset": "datasets/"}
_REACH = ("Check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; or fetch the files with the hub's client "
          "elsewhere, and name its cache with HF_HUB_CACHE")


class FetchError(Exception):
    """Why a file cannot be had, and what to do, in one line."""


def _home():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.expandvars(os.path.expanduser(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")))


def hub_cache():
    """The cache of the hub's client."""
    path = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(_home(), "hub")
    return os.path.expandvars(os.path.expanduser(path))


def own_store():
    """Where downloads are kept by their sha256, for all checkouts."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "titan", "hf")


def find_token():
    """(token, where it comes from); (None, "") if the user is not logged in."""
    source = "HF_TOKEN"
    token = os.environ.get(source, "").strip()
    if not token:
        source = os.path.expanduser(os.environ.get("HF_TOKEN_PATH") or os.path.join(_home(), "token"))
        try:
            with open(source, encoding="utf-8") as file:
                token = file.read().strip()
        except FileNotFoundError:
            return None, ""
        except (OSError, UnicodeDecodeError) as error:
            raise FetchError("the login file %s cannot be read (%s)" % (source, error)) from error
    if not re.fullmatch(r"[!-~]*", token):
        raise FetchError("what %s holds is no token. Log in again" % source)
    return (token, source) if token else (None, "")


def find_endpoint(client_constants):
    """The hub's address: HF_ENDPOINT, or what the hub's own client has in its constants.py."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint:
        if not re.match(r"https?://[^/]", endpoint):
            raise FetchError("HF_ENDPOINT must be an address with https://, and is '%s'" % endpoint)
        return endpoint.rstrip("/")
    if not client_constants:
        installed = importlib.util.find_spec("huggingface_hub")
        if installed and installed.origin:
            client_constants = os.path.join(os.path.dirname(installed.origin), "constants.py")
    if client_constants:
        with open(client_constants, encoding="utf-8") as file:
            for node in ast.parse(file.read()).body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HF_DEFAULT_ENDPOINT":
                    return ast.literal_eval(node.value).rstrip("/")
    raise FetchError("the hub's address is not known. Name it with HF_ENDPOINT")


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(path, digest):
    """FetchError if this is no path for Bazel, or no digest."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\0\n]", path):
        raise FetchError("'%s' is no path of a file in a repository" % path)
    if any(part in ("BUILD", "BUILD.bazel", "WORKSPACE", "WORKSPACE.bazel") for part in parts):
        raise FetchError("'%s' would be taken for one of Bazel's own files" % path)
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise FetchError("the sha256 of %s must be 64 hexadecimal digits, and is '%s'" % (path, digest))


class Spec:
    """What to fetch. FetchError for what cannot be meant."""

    def __init__(self, repo, repo_type, revision, files):
        self.repo = repo
        self.repo_type = repo_type
        self.revision = revision
        self.files = files

    def check(self):
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", self.repo):
            raise FetchError("repo must be ORGANISATION/NAME, and is '%s'" % self.repo)
        if self.repo_type not in _KINDS:
            raise FetchError("repo_type must be one of %s, and is '%s'" % (", ".join(_KINDS), self.repo_type))
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise FetchError("revision must be a commit, 40 hexadecimal digits, because a branch or tag moves; it is "
                             "'%s'. `hf_fetch.py pin` prints the commit" % self.revision)
        for path, digest in self.files.items():
            check_file(path, digest)

    def in_hub_cache(self, path):
        """Where the hub's client would have put the file."""
        folder = "%ss--%s" % (self.repo_type, self.repo.replace("/", "--"))
        return os.path.join(hub_cache(), folder, "snapshots", self.revision, *path.split("/"))


def read_spec(path):
    with open(path, encoding="utf-8") as file:
        spec = Spec(**json.load(file))
    spec.check()
    return spec


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps what each hop says of the file, and the token from everyone but the hub itself."""

    def __init__(self):
        self.hops = []

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            self.hops.append(headers)
            authorization = req.unredirected_hdrs.get("Authorization")
            if authorization and _origin(newurl) == _origin(req.full_url):
                new.add_unredirected_header("Authorization", authorization)
        return new


def _origin(url):
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class Hub:
    """The hub, as the user who runs this sees it."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.token, self.token_source = find_token()

    def url_of(self, spec, path):
        return "%s/%s%s/resolve/%s/%s" % (self.endpoint, _KINDS[spec.repo_type], spec.repo,
                                          urllib.parse.quote(spec.revision, safe=""), urllib.parse.quote(path))

    def open(self, url, begin=0):
        """(response, headers of all hops). Raises what urllib raises."""
        request = urllib.request.Request(url, headers={"User-Agent": "titan-hf-assets", "Accept-Encoding": "identity"})
        if begin:
            request.add_header("Range", "bytes=%d-" % begin)
        if self.token:
            request.add_unredirected_header("Authorization", "Bearer " + self.token)
        redirects = _Redirects()
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
        return response, redirects.hops + [response.headers]

    def info(self, spec):
        """What the hub's API says of a revision: {"sha": commit, "siblings": [{"rfilename": path}]}."""
        url = "%s/api/%ss/%s/revision/%s" % (self.endpoint, spec.repo_type, spec.repo,
                                             urllib.parse.quote(spec.revision, safe=""))
        try:
            with self.open(url)[0] as response:
                return json.load(response)
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise FetchError(self.explain(error, spec)) from error
        except ValueError as error:
            raise FetchError("%s does not speak the hub's language (%s). Check HF_ENDPOINT" % (url, error)) from error

    def explain(self, error, spec, path=""):
        """The reason of a failed request, and what to do."""
        if isinstance(error, urllib.error.HTTPError):
            return self._explain_status(error, spec, path)
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return "the certificate of %s is not trusted here (%s). Name your own with SSL_CERT_FILE" % (
                self.endpoint, reason.verify_message)
        return "%s cannot be reached (%s). %s" % (self.endpoint, reason or type(error).__name__, _REACH)

    def _explain_status(self, error, spec, path):
        code = error.headers.get("X-Error-Code", "")
        if error.code == 401 and self.token:
            return "the hub does not accept the token of %s (401). Log in again" % self.token_source
        if error.code == 401:
            return ("the hub wants to know who asks (401): the repository is gated or private, or its name is wrong. "
                    "Log in with the hub's client, or put a token into HF_TOKEN or the file that HF_TOKEN_PATH names")
        who = "the token of %s" % self.token_source if self.token else "someone without a token"
        if error.code == 403 and code == "GatedRepo":
            return ("the repository is gated, and %s has no access (403). Ask for it on the repository's page, with "
                    "the account of the token" % who)
        if error.code == 403:
            return "%s may not read it (403). Give the token that right, or take another" % who
        if error.code == 404 and code == "RevisionNotFound":
            return ("the repository has no revision %s (404). `hf_fetch.py pin` prints the commits of branches and "
                    "tags" % spec.revision)
        if error.code == 404 and code == "EntryNotFound":
            return "the revision has no such file (404)%s" % self._nearest(spec, path)
        if error.code == 404:
            return "the hub has no such %s (404). Check its name, and log in if it is private" % spec.repo_type
        if error.code == 429 or error.code >= 500:
            return "the hub is busy or broken (%d). Try again later" % error.code
        return "the hub answers %d %s" % (error.code, error.reason)

    def _nearest(self, spec, path):
        try:
            names = [sibling["rfilename"] for sibling in self.info(spec)["siblings"]]
        except (FetchError, KeyError, TypeError):  # an explanation of an error is no place for another one
            return ""
        nearest = difflib.get_close_matches(path, names, n=3, cutoff=0.3)
        return ". Did you mean %s?" % " or ".join(nearest) if nearest else ". It has %d files" % len(names)

    def download(self, spec, path, digest, part):
        """Puts the file into `part`, going on where an earlier attempt has stopped. `digest`: what it should have."""
        waits = list(WAITS_S)
        best = os.path.getsize(part) if os.path.exists(part) else 0
        while True:
            error = None
            try:
                if self._attempt(spec, path, digest, part):
                    return
                reason = "it is cut off after %d bytes, again and again. %s" % (os.path.getsize(part), _REACH)
            except (urllib.error.URLError, OSError, http.client.HTTPException) as caught:
                error = caught
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = self.explain(error, spec, path)
            if isinstance(error, urllib.error.HTTPError) and error.code != 429 and error.code < 500:
                raise FetchError(reason) from error
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise FetchError(reason) from error
            size = os.path.getsize(part) if os.path.exists(part) else 0
            if size > best:
                best = size
                waits = list(WAITS_S)
            if not waits:
                raise FetchError(reason) from error
            time.sleep(waits.pop(0))

    def _attempt(self, spec, path, digest, part):
        """One request. True if the file is complete."""
        begin = os.path.getsize(part) if os.path.exists(part) else 0
        try:
            response, hops = self.open(self.url_of(spec, path), begin)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            # Nothing follows what we have; whether it is the file, its digest will tell.
            return True
        with response:
            check_promises(hops, spec, digest)
            if response.status != 206 or not response.headers.get("Content-Range", "").startswith("bytes %d-" % begin):
                begin = 0
            length = response.headers.get("Content-Length")
            total = begin + int(length) if length is not None else None
            require_space(part, (total or begin) - begin)
            with open(part, "r+b" if begin else "wb") as file:
                file.seek(begin)
                shutil.copyfileobj(response, file, CHUNK_BYTES)
                file.truncate()
                return total is None or file.tell() >= total


def check_promises(hops, spec, digest):
    """Compares what the hub says of the file before its first byte, so that no gigabytes are fetched in vain."""
    for headers in hops:
        commit = headers.get("X-Repo-Commit")
        if commit and re.fullmatch(r"[0-9a-f]{40}", spec.revision) and commit != spec.revision:
            raise FetchError("the hub answers with the commit %s" % commit)
        linked = headers.get("X-Linked-Etag", "").strip('"')
        if digest and re.fullmatch(r"[0-9a-f]{64}", linked) and linked != digest:
            raise FetchError(differs("the hub's file", linked))


def differs(what, digest):
    return ("%s has the sha256 %s, and not the pinned one. Do not use it: correct the pin, or ask the owner" %
            (what, digest))


def require_space(path, size):
    free = shutil.disk_usage(os.path.dirname(path)).free
    if size > free:
        raise FetchError("it needs %d MiB of disk space, and %d MiB are free at %s. Free some space" % (
            size >> 20, free >> 20, os.path.dirname(path)))


def place(source, target):
    """Makes `target` the file `source`: a hard link, which takes no space, or a copy."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        os.remove(target)
    source = os.path.realpath(source)
    try:
        os.link(source, target)
    except OSError:
        require_space(target, os.path.getsize(source))
        shutil.copyfile(source, target)


@contextlib.contextmanager
def locked(path):
    """One process at a time: two checkouts may want the same file."""
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_offline():
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def get_file(hub, spec, path, digest, target):
    """Puts one file at `target`. `hub` is called for a Hub only if it is needed."""
    cached = spec.in_hub_cache(path)
    stored = os.path.join(own_store(), digest)
    for source in [stored, cached]:
        if os.path.isfile(source) and sha256_of(source) == digest:
            place(source, target)
            return
    if is_offline():
        if os.path.isfile(cached):
            raise FetchError(differs(cached, sha256_of(cached)) + "; and HF_HUB_OFFLINE keeps us from the hub")
        raise FetchError("HF_HUB_OFFLINE is set, and there is no %s. Unset it, or fetch it with the hub's client" %
                         cached)
    os.makedirs(own_store(), exist_ok=True)
    with locked(stored + ".lock"):
        if not (os.path.isfile(stored) and sha256_of(stored) == digest):
            part = stored + ".part"
            is_resumed = os.path.exists(part)
            hub().download(spec, path, digest, part)
            if is_resumed and sha256_of(part) != digest:  # what an earlier run has left was no part of it
                os.remove(part)
                hub().download(spec, path, digest, part)
            got = sha256_of(part)
            if got != digest:
                os.remove(part)
                raise FetchError(differs("what came", got))
            os.replace(part, stored)
    place(stored, target)


def fetch(spec, directory, client_constants):
    hubs = []

    def hub():
        if not hubs:
            hubs.append(Hub(find_endpoint(client_constants)))
        return hubs[0]

    for path, digest in sorted(spec.files.items()):
        what = "%s of %s" % (path, spec.repo)
        try:
            get_file(hub, spec, path, digest, os.path.join(directory, *path.split("/")))
        except FetchError as error:
            raise FetchError("Cannot fetch %s: %s." % (what, error)) from error
        except OSError as error:
            advice = ". Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise FetchError("Cannot fetch %s: %s%s." % (what, error, advice)) from error


def is_cached(spec):
    return all(os.path.isfile(os.path.join(own_store(), digest)) or os.path.isfile(spec.in_hub_cache(path))
               for path, digest in spec.files.items())


def pin(spec, client_constants):
    """The rule that fetches `spec.files`, keys alone, as they are now."""
    hub = Hub(find_endpoint(client_constants))
    try:
        spec.revision = hub.info(spec).get("sha", "")
        os.makedirs(own_store(), exist_ok=True)
        for path in spec.files:
            part = os.path.join(own_store(), "pin.%d.part" % os.getpid())
            hub.download(spec, path, None, part)
            spec.files[path] = sha256_of(part)
            os.replace(part, os.path.join(own_store(), spec.files[path]))
        spec.check()
    except FetchError as error:
        raise FetchError("Cannot pin %s: %s." % (spec.repo, error)) from error
    lines = ["hf_assets(", '    name = "%s",' % re.sub(r"\W", "_", spec.repo.split("/")[-1]).lower(), "    files = {"]
    lines += ['        "%s": "%s",' % item for item in sorted(spec.files.items())]
    lines += ["    },", '    repo = "%s",' % spec.repo]
    lines += ['    repo_type = "%s",' % spec.repo_type] if spec.repo_type != "model" else []
    return "\n".join(lines + ['    revision = "%s",' % spec.revision, ")"])


def main(arguments):
    parser = argparse.ArgumentParser(prog="hf_fetch.py", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ["cached", "fetch", "pin"]}
    for name in ["fetch", "pin"]:
        parsers[name].add_argument("--client", help="constants.py of the hub's client")
    for name in ["cached", "fetch"]:
        parsers[name].add_argument("spec")
    parsers["fetch"].add_argument("directory")
    parsers["pin"].add_argument("--repo_type", default="model", choices=list(_KINDS))
    parsers["pin"].add_argument("--revision", default="main")
    parsers["pin"].add_argument("repo")
    parsers["pin"].add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.command == "cached":
            return 0 if is_cached(read_spec(options.spec)) else 1
        if options.command == "fetch":
            fetch(read_spec(options.spec), options.directory, options.client)
        else:
            files = {path: "" for path in options.files}
            print(pin(Spec(options.repo, options.repo_type, options.revision, files), options.client))
    except FetchError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
