"""s3_fetch.py against a local server that speaks S3: s3_fetch_test.py S3_FETCH.py FILE_BESIDE_BOTOCORE"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import unittest
import unittest.mock

import fake_s3

SMALL = b'{"text": "small"}\n'
LARGE = bytes(range(256)) * 8000


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def load_script(path):
    spec = importlib.util.spec_from_file_location("s3_fetch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.WAITS_S = [0, 0]
    return module


class S3FetchTest(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.home)
        self.s3 = fake_s3.FakeS3()
        self.s3.__enter__()
        self.addCleanup(self.s3.__exit__)
        self.s3.objects = {("corpora", "a/small.jsonl"): SMALL, ("corpora", "a b+c/large.bin"): LARGE,
                           ("open", "small.jsonl"): SMALL}
        self.s3.public = {"open"}
        self.environment = {"HOME": self.home, "no_proxy": "*", "AWS_ACCESS_KEY_ID": "known",
                            "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_EC2_METADATA_DISABLED": "true"}
        self.log_in(self.environment)

    def log_in(self, environment):
        patch = unittest.mock.patch.dict(os.environ, environment, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

    def run_main(self, files, **changes):
        """(exit code, stderr, folder)"""
        spec = dict({"bucket": "corpora", "files": files, "endpoint": self.s3.endpoint, "region": "",
                     "anonymous": False}, **changes)
        path = os.path.join(self.home, "spec.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        directory = tempfile.mkdtemp(dir=self.home)
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = s3_fetch.main([path, directory])
        return code, err.getvalue(), directory

    def fetch(self, files, **changes):
        code, err, directory = self.run_main({key: sha256(content) for key, content in files.items()}, **changes)
        self.assertEqual((code, err), (0, ""))
        for key, content in files.items():
            with open(os.path.join(directory, key), "rb") as file:
                self.assertEqual(file.read(), content)

    def expect_error(self, files, *parts, **changes):
        code, err, directory = self.run_main(files, **changes)
        self.assertEqual(code, 1)
        self.assertEqual(err.count("\n"), 1, err)
        for part in parts:
            self.assertIn(part, err)
        self.assertNotIn("very-secret", err)
        for key in files:
            self.assertFalse(os.path.exists(os.path.join(directory, key)), key)

    def test_fetches_with_the_users_credentials(self):
        self.fetch({"a/small.jsonl": SMALL, "a b+c/large.bin": LARGE})
        self.assertEqual(len(self.s3.requests), 2)
        for _, authorization, _ in self.s3.requests:
            self.assertIn("AWS4-HMAC-SHA256 Credential=known/", authorization)

    def test_credentials_of_a_profile(self):
        os.makedirs(os.path.join(self.home, ".aws"))
        with open(os.path.join(self.home, ".aws", "credentials"), "w", encoding="utf-8") as file:
            file.write("[work]\naws_access_key_id = known\naws_secret_access_key = very-secret\n")
        self.log_in({"HOME": self.home, "no_proxy": "*", "AWS_PROFILE": "work"})
        self.fetch({"a/small.jsonl": SMALL})

    def test_public_buckets_need_none(self):
        self.log_in({"HOME": self.home, "no_proxy": "*"})
        self.fetch({"small.jsonl": SMALL}, bucket="open", anonymous=True)
        self.assertEqual(self.s3.requests[0][1], "")

    def test_second_time_needs_no_network(self):
        self.fetch({"a/small.jsonl": SMALL})
        self.fetch({"a/small.jsonl": SMALL}, bucket="elsewhere")
        self.assertEqual(len(self.s3.requests), 1)

    def test_goes_on_where_it_was_cut_off(self):
        self.s3.cut = [1200000, 0, 300000]
        self.fetch({"a b+c/large.bin": LARGE})
        begins = [wanted for _, _, wanted in self.s3.requests]
        self.assertEqual(begins[0], "")
        self.assertTrue(begins[-1].startswith("bytes="), begins)

    def test_goes_on_after_a_run_that_ended(self):
        part = os.path.join(s3_fetch.own_store(), sha256(LARGE) + ".part")
        os.makedirs(os.path.dirname(part))
        for begun in [LARGE[:1000], LARGE, b"something else", LARGE + b"more"]:
            with open(part, "wb") as file:
                file.write(begun)
            self.fetch({"a b+c/large.bin": LARGE})
            os.remove(os.path.join(s3_fetch.own_store(), sha256(LARGE)))

    def test_tries_again_when_the_store_is_busy(self):
        self.s3.failures = [(503, "SlowDown")]
        self.fetch({"a/small.jsonl": SMALL})
        self.assertEqual(len(self.s3.requests), 2)

    def test_cut_off_again_and_again(self):
        self.s3.cut = [0] * 20
        self.expect_error({"a b+c/large.bin": sha256(LARGE)}, "Cannot fetch a b+c/large.bin of the bucket corpora")

    def test_another_digest(self):
        self.expect_error({"a/small.jsonl": sha256(LARGE)}, "sha256 " + sha256(SMALL), "not the pinned one")
        self.assertEqual([name for name in os.listdir(s3_fetch.own_store()) if not name.endswith(".lock")], [])

    def test_what_is_not_there(self):
        self.expect_error({"none": sha256(SMALL)}, "no such object (404, NoSuchKey)")
        self.expect_error({"none": sha256(SMALL)}, "no such bucket", bucket="none")

    def test_who_may_not(self):
        self.expect_error({"a/small.jsonl": sha256(SMALL)}, "403, AccessDenied", anonymous=True)
        os.environ["AWS_ACCESS_KEY_ID"] = "unknown"
        self.expect_error({"a/small.jsonl": sha256(SMALL)}, "does not accept the credentials", "Log in")

    def test_no_credentials(self):
        self.log_in({"HOME": self.home, "no_proxy": "*", "AWS_EC2_METADATA_DISABLED": "true"})
        self.expect_error({"a/small.jsonl": sha256(SMALL)}, "there are no credentials", "AWS_ACCESS_KEY_ID")
        os.environ["AWS_PROFILE"] = "none"
        self.expect_error({"a/small.jsonl": sha256(SMALL)}, "none", "Log in")

    def test_another_region(self):
        self.s3.failures = [(400, "AuthorizationHeaderMalformed")]
        self.expect_error({"a/small.jsonl": sha256(SMALL)}, "another region", "`region`")

    def test_nobody_answers(self):
        with unittest.mock.patch("time.sleep"):
            self.expect_error({"a/small.jsonl": sha256(SMALL)}, "cannot be reached", "`endpoint`",
                              endpoint="http://127.0.0.1:1")

    def test_what_cannot_be_meant(self):
        self.expect_error({"a/../b": sha256(SMALL)}, "no path of a file")
        self.expect_error({"a/BUILD": sha256(SMALL)}, "Bazel's own files")
        self.expect_error({"a": "abc"}, "64 hexadecimal digits")
        self.expect_error({"a": sha256(SMALL)}, "must be an address", endpoint="minio:9000")
        self.expect_error({"a": sha256(SMALL)}, "no name of a bucket", bucket="a bucket")


if __name__ == "__main__":
    botocore = os.path.dirname(os.path.abspath(sys.argv.pop(2)))
    sys.path.insert(0, botocore)
    s3_fetch = load_script(sys.argv.pop(1))
    unittest.main()
