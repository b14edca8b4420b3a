"""Gets pinned objects of S3, or a store that speaks like it, for the repository rule s3_assets.

    s3_fetch.py [--client DIRECTORY] SPEC.json DIRECTORY

SPEC.json: {"bucket": "corpora", "files": {"key": "<sha256>"}, "endpoint": "", "region": "", "anonymous": false}.
--client is the folder with botocore, if it is not installed.

An object comes from our own store or from the bucket, and counts only if its sha256 is the pinned one. Who asks is for
botocore to find: the environment, ~/.aws, a role. Every failure is one line: what, why, and what to do; exit code 1.
"""

import argparse
import errno
import json
import os
import re
import sys
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "hf_assets"))
import hf_fetch  # noqa: E402
from hf_fetch import FetchError  # noqa: E402

# Waits before another attempt after one that has brought something, or has failed on the way.
WAITS_S = [1, 4, 15]

_LOG_IN = ("Log in as for Amazon's own tools (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws, or a "
           "role), or say anonymous = True if the bucket is public")
_REACH = "Check the network, the proxy (HTTPS_PROXY), `endpoint` and `region`"


def own_store():
    """Where downloads are kept by their sha256, for all checkouts."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "titan", "s3")


def read_spec(path):
    with open(path, encoding="utf-8") as file:
        spec = json.load(file)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]+", spec["bucket"]):
        raise FetchError("'%s' is no name of a bucket" % spec["bucket"])
    if spec["endpoint"] and not re.match(r"https?://[^/]", spec["endpoint"]):
        raise FetchError("endpoint must be an address with https://, and is '%s'" % spec["endpoint"])
    for key, digest in spec["files"].items():
        hf_fetch.check_file(key, digest)
    return spec


class Bucket:
    """The bucket, as the user who runs this sees it. Made when the first object is not at hand."""

    def __init__(self, spec):
        import botocore
        import botocore.config
        import botocore.exceptions
        import botocore.session
        self.exceptions = botocore.exceptions
        self.name = spec["bucket"]
        self.endpoint = spec["endpoint"] or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        session = botocore.session.Session()
        config = botocore.config.Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=20,
            read_timeout=60,
            signature_version=botocore.UNSIGNED if spec["anonymous"] else None,
            # Most stores that are not Amazon's have no name of its own for each bucket.
            s3={"addressing_style": "path"} if self.endpoint else None,
            user_agent_extra="titan-s3-assets",
        )
        try:
            region = spec["region"] or session.get_config_variable("region") or "us-east-1"
            self.client = session.create_client("s3", region_name=region, endpoint_url=self.endpoint, config=config)
        except (self.exceptions.BotoCoreError, ValueError) as error:
            raise FetchError(self.explain(error)) from error

    def explain(self, error):
        exceptions = self.exceptions
        if isinstance(error, exceptions.ClientError):
            return self._explain_answer(error.response)
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            return "there are no credentials, or not all of them. " + _LOG_IN
        if isinstance(error, (exceptions.ProfileNotFound, exceptions.TokenRetrievalError, exceptions.SSOError,
                              exceptions.CredentialRetrievalError)):
            return "the credentials cannot be had (%s). %s" % (error, _LOG_IN)
        if isinstance(error, exceptions.SSLError):
            return "the store's certificate is not trusted here. Name your own with AWS_CA_BUNDLE"
        return "the store cannot be reached (%s). %s" % (error, _REACH)

    def _explain_answer(self, response):
        code = response.get("Error", {}).get("Code", "")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = "%s, %s" % (status, code)
        if code == "NoSuchBucket":
            return "there is no such bucket (%s). Check its name, `endpoint` and `region`" % said
        if code in ("NoSuchKey", "404"):
            return "the bucket has no such object (%s)" % said
        if code in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"):
            return "the store does not accept the credentials (%s). %s" % (said, _LOG_IN)
        if status == 403:
            return ("whoever asks may not read it, or it is not there (%s). Give the credentials that right, or take "
                    "others. %s" % (said, _LOG_IN))
        if status in (301, 307, 400) and code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
            return "the bucket is in another region (%s). Name it with `region`" % said
        if status in (429, 503) or status >= 500:
            return "the store is busy or broken (%s). Try again later" % said
        return "the store answers %s" % said

    def download(self, key, part):
        """Puts the object into `part`, going on where an earlier attempt has stopped."""
        waits = list(WAITS_S)
        while True:
            before = os.path.getsize(part) if os.path.exists(part) else 0
            try:
                if self._attempt(key, part, before):
                    return
                reason = "it is cut off after %d bytes, again and again. %s" % (os.path.getsize(part), _REACH)
            except self.exceptions.ClientError as error:  # botocore has tried again where that may help
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416:
                    return  # nothing follows what we have; whether it is the object, its digest will tell
                raise FetchError(self.explain(error)) from error
            except (self.exceptions.HTTPClientError, self.exceptions.IncompleteReadError) as error:
                reason = self.explain(error)
            except self.exceptions.BotoCoreError as error:
                raise FetchError(self.explain(error)) from error
            if os.path.exists(part) and os.path.getsize(part) > before:
                waits = list(WAITS_S)
            if not waits:
                raise FetchError(reason)
            time.sleep(waits.pop(0))

    def _attempt(self, key, part, begin):
        """One request. True if the object is complete."""
        extra = {"Range": "bytes=%d-" % begin} if begin else {}
        response = self.client.get_object(Bucket=self.name, Key=key, **extra)
        if begin and not response.get("ContentRange", "").startswith("bytes %d-" % begin):
            begin = 0
        total = begin + response["ContentLength"]
        hf_fetch.require_space(part, total - begin)
        with open(part, "r+b" if begin else "wb") as file:
            file.seek(begin)
            file.truncate()
            for chunk in response["Body"].iter_chunks(hf_fetch.CHUNK_BYTES):
                file.write(chunk)
            return file.tell() >= total


def get_file(bucket, key, digest, target):
    """Puts one object at `target`. `bucket` is called for a Bucket only if it is needed."""
    stored = os.path.join(own_store(), digest)
    os.makedirs(own_store(), exist_ok=True)
    with hf_fetch.locked(stored + ".lock"):
        if not (os.path.isfile(stored) and hf_fetch.sha256_of(stored) == digest):
            part = stored + ".part"
            is_resumed = os.path.exists(part)
            bucket().download(key, part)
            if is_resumed and hf_fetch.sha256_of(part) != digest:  # what an earlier run has left was no part of it
                os.remove(part)
                bucket().download(key, part)
            got = hf_fetch.sha256_of(part)
            if got != digest:
                os.remove(part)
                raise FetchError(hf_fetch.differs("what came", got))
            os.replace(part, stored)
    hf_fetch.place(stored, target)


def fetch(spec, directory):
    buckets = []

    def bucket():
        if not buckets:
            buckets.append(Bucket(spec))
        return buckets[0]

    for key, digest in sorted(spec["files"].items()):
        what = "%s of the bucket %s" % (key, spec["bucket"])
        try:
            get_file(bucket, key, digest, os.path.join(directory, *key.split("/")))
        except FetchError as error:
            raise FetchError("Cannot fetch %s: %s." % (what, error)) from error
        except OSError as error:
            advice = ". Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise FetchError("Cannot fetch %s: %s%s." % (what, error, advice)) from error


def main(arguments):
    parser = argparse.ArgumentParser(prog="s3_fetch.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--client", help="the folder with botocore")
    parser.add_argument("spec")
    parser.add_argument("directory")
    options = parser.parse_args(arguments)
    if options.client:
        sys.path.insert(0, options.client)
    try:
        fetch(read_spec(options.spec), options.directory)
    except FetchError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
