"""hf_fetch.py against a local server that speaks the hub's protocol: hf_fetch_test.py HF_FETCH.py"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import unittest
import unittest.mock

import fake_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = b'{"model_type": "llama"}'
LARGE = bytes(range(256)) * 40


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def load_script(path):
    spec = importlib.util.spec_from_file_location("hf_fetch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.WAITS_S = [0, 0]
    return module


class HfFetchTest(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.home)
        self.hub = self.enterContextCompat(fake_hub.FakeHub())
        self.hub.add("org/name", COMMIT, {"config.json": SMALL, "dir/tokenizer.json": SMALL},
                     large={"model.safetensors": LARGE})
        self.enterContextCompat(unittest.mock.patch.dict(
            os.environ, {"HOME": self.home, "HF_ENDPOINT": self.hub.endpoint, "no_proxy": "*"}, clear=True))

    def enterContextCompat(self, manager):
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def run_main(self, *arguments):
        """(exit code, stdout, stderr)"""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = hf_fetch.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def write_spec(self, files, **changes):
        spec = dict({"repo": "org/name", "repo_type": "model", "revision": COMMIT, "files": files}, **changes)
        path = os.path.join(self.home, "spec.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        return path

    def fetch(self, files, **changes):
        """What came, by path."""
        directory = tempfile.mkdtemp(dir=self.home)
        code, _, err = self.run_main("fetch", self.write_spec(files, **changes), directory)
        self.assertEqual((code, err), (0, ""))
        contents = {}
        for path in files:
            with open(os.path.join(directory, path), "rb") as file:
                contents[path] = file.read()
        return contents

    def expect_error(self, files, *parts, **changes):
        directory = tempfile.mkdtemp(dir=self.home)
        code, _, err = self.run_main("fetch", self.write_spec(files, **changes), directory)
        self.assertEqual(code, 1)
        self.assertEqual(err.count("\n"), 1, err)
        for part in parts:
            self.assertIn(part, err)
        for path in files:
            self.assertFalse(os.path.exists(os.path.join(directory, path)), path)
        return err

    def store(self, name=""):
        return os.path.join(self.home, ".cache", "titan", "hf", name)

    def add_to_hub_cache(self, path, content, root=None):
        """As the hub's client does: a blob, and a link to it."""
        folder = os.path.join(root or os.path.join(self.home, ".cache", "huggingface", "hub"), "models--org--name")
        blob = os.path.join(folder, "blobs", hashlib.sha1(content).hexdigest())
        link = os.path.join(folder, "snapshots", COMMIT, path)
        for file in [blob, link]:
            os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(blob, "wb") as file:
            file.write(content)
        os.symlink(os.path.relpath(blob, os.path.dirname(link)), link)

    def test_fetches_small_and_large_files(self):
        files = {"config.json": SMALL, "dir/tokenizer.json": SMALL, "model.safetensors": LARGE}
        self.assertEqual(self.fetch({path: sha256(content) for path, content in files.items()}), files)

    def test_fetches_datasets(self):
        self.hub.add("org/data", COMMIT, {"en/a b+c.jsonl": SMALL}, kind="datasets")
        self.fetch({"en/a b+c.jsonl": sha256(SMALL)}, repo="org/data", repo_type="dataset")
        self.expect_error({"en/a b+c.json": sha256(LARGE)}, "no such model (404)", repo="org/data")

    def test_second_time_needs_no_network(self):
        self.fetch({"model.safetensors": sha256(LARGE)})
        before = len(self.hub.requests)
        self.fetch({"model.safetensors": sha256(LARGE)}, repo="another/name")
        self.assertEqual(len(self.hub.requests), before)
        self.assertEqual(self.run_main("cached", self.write_spec({"model.safetensors": sha256(LARGE)}))[0], 0)
        self.assertEqual(self.run_main("cached", self.write_spec({"config.json": sha256(SMALL)}))[0], 1)

    def test_damaged_store_is_fetched_again(self):
        self.fetch({"model.safetensors": sha256(LARGE)})
        os.remove(self.store(sha256(LARGE)))
        with open(self.store(sha256(LARGE)), "wb") as file:
            file.write(LARGE[:-1] + b"?")
        self.assertEqual(self.fetch({"model.safetensors": sha256(LARGE)})["model.safetensors"], LARGE)

    def test_takes_files_of_the_hub_clients_cache(self):
        self.add_to_hub_cache("dir/tokenizer.json", SMALL)
        os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
        self.assertEqual(self.run_main("cached", self.write_spec({"dir/tokenizer.json": sha256(SMALL)}))[0], 0)
        self.fetch({"dir/tokenizer.json": sha256(SMALL)})
        self.assertEqual(self.hub.requests, [])
        elsewhere = os.path.join(self.home, "elsewhere")
        self.add_to_hub_cache("config.json", SMALL, elsewhere)
        os.environ["HF_HUB_CACHE"] = elsewhere
        self.fetch({"config.json": sha256(SMALL)})

    def test_cached_file_with_another_digest(self):
        self.add_to_hub_cache("config.json", b"{}")
        self.fetch({"config.json": sha256(SMALL)})  # from the hub
        shutil.rmtree(self.store())
        os.environ["HF_HUB_OFFLINE"] = "1"
        self.expect_error({"config.json": sha256(SMALL)}, sha256(b"{}"), "HF_HUB_OFFLINE", "snapshots/" + COMMIT)

    def test_offline(self):
        os.environ["HF_HUB_OFFLINE"] = "1"
        self.expect_error({"config.json": sha256(SMALL)}, "HF_HUB_OFFLINE is set", "fetch it with the hub's client")
        self.assertEqual(self.hub.requests, [])

    def test_unreachable(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            os.environ["HF_ENDPOINT"] = "http://127.0.0.1:%d" % unused.getsockname()[1]
            self.expect_error({"config.json": sha256(SMALL)}, "Cannot fetch config.json of org/name",
                              "cannot be reached", "Check the network", "HF_HUB_CACHE")

    def test_token_reaches_the_hub_alone(self):
        self.hub.token = "hf_secret"
        with open(os.path.join(self.home, "token_file"), "w", encoding="utf-8") as file:
            file.write("hf_secret\n")
        folder = os.path.join(self.home, ".cache", "huggingface")
        os.makedirs(folder)
        shutil.copy(os.path.join(self.home, "token_file"), os.path.join(folder, "token"))
        for variables in [{"HF_TOKEN": "hf_secret"}, {"HF_TOKEN_PATH": os.path.join(self.home, "token_file")},
                          {"HF_HOME": folder}, {"XDG_CACHE_HOME": os.path.join(self.home, ".cache")}, {}]:
            shutil.rmtree(self.store(), ignore_errors=True)
            self.hub.requests.clear()
            with unittest.mock.patch.dict(os.environ, variables):
                self.fetch({"model.safetensors": sha256(LARGE)})
            self.assertEqual([(server, token) for server, _, token, _ in self.hub.requests],
                             [("hub", "Bearer hf_secret"), ("storage", None)])

    def test_who_may_not(self):
        files = {"config.json": sha256(SMALL)}
        self.hub.token = "hf_secret"
        self.expect_error(files, "who asks (401)", "Log in", "HF_TOKEN_PATH")
        os.environ["HF_TOKEN"] = "hf_wrong"
        self.assertNotIn("hf_wrong", self.expect_error(files, "token of HF_TOKEN (401)", "Log in again"))
        os.environ["HF_TOKEN"] = "hf_secret"
        self.hub.status = (403, "GatedRepo")
        self.expect_error(files, "gated", "(403)", "Ask for it on the repository's page")
        self.hub.status = (403, "")
        self.expect_error(files, "may not read it (403)")
        del os.environ["HF_TOKEN"]
        with open(os.path.join(self.home, "token"), "wb") as file:
            file.write(b"not\na token")
        os.environ["HF_HOME"] = self.home
        self.expect_error(files, os.path.join(self.home, "token"), "is no token")

    def test_what_is_not_there(self):
        self.expect_error({"confg.json": sha256(SMALL)}, "no such file (404)", "Did you mean config.json")
        self.expect_error({"config.json": sha256(SMALL)}, "no revision " + "0" * 40, revision="0" * 40)
        self.expect_error({"config.json": sha256(SMALL)}, "no such model (404)", repo="org/nam")

    def test_wrong_digest(self):
        self.expect_error({"config.json": sha256(b"{}")}, "what came has the sha256 " + sha256(SMALL), "Do not use it")
        self.assertFalse(os.path.exists(self.store(sha256(b"{}") + ".part")))
        # Of a large file the hub tells the digest first.
        self.expect_error({"model.safetensors": sha256(b"{}")}, "the hub's file has the sha256 " + sha256(LARGE))
        self.hub.faults = {"spoilt"}
        self.expect_error({"model.safetensors": sha256(LARGE)}, "what came has the sha256 " + sha256(LARGE[:-1] + b"?"))

    def test_other_commit(self):
        self.hub.faults = {"other_commit"}
        self.expect_error({"model.safetensors": sha256(LARGE)}, "with the commit " + "f" * 40)

    def test_goes_on_where_a_connection_ended(self):
        self.hub.faults = {"cut_off_once"}
        self.assertEqual(self.fetch({"model.safetensors": sha256(LARGE)})["model.safetensors"], LARGE)
        self.assertEqual([begin for _, _, _, begin in self.hub.requests], [None, None, "bytes=1000-", "bytes=1000-"])
        shutil.rmtree(self.store())
        self.hub.faults = {"cut_off"}  # again and again, but each time there is more
        self.assertEqual(self.fetch({"model.safetensors": sha256(LARGE)})["model.safetensors"], LARGE)

    def test_goes_on_where_an_earlier_run_ended(self):
        os.makedirs(self.store())
        for left, ranges in [(LARGE[:300], ["bytes=300-"] * 2), (LARGE, ["bytes=%d-" % len(LARGE)] * 2),
                             (b"?" * 300, ["bytes=300-"] * 2 + [None, None])]:
            with open(self.store(sha256(LARGE) + ".part"), "wb") as file:
                file.write(left)
            self.hub.requests.clear()
            self.assertEqual(self.fetch({"model.safetensors": sha256(LARGE)})["model.safetensors"], LARGE)
            self.assertEqual([begin for _, _, _, begin in self.hub.requests], ranges)
            os.remove(self.store(sha256(LARGE)))

    def test_truncated_body(self):
        self.hub.faults = {"cut_off", "no_range"}
        self.expect_error({"model.safetensors": sha256(LARGE)}, "cut off after 1000 bytes")

    def test_busy_hub(self):
        for status in [429, 500, 503]:
            self.hub.requests.clear()
            self.hub.status = (status, "")
            self.expect_error({"config.json": sha256(SMALL)}, "busy or broken (%d)" % status, "Try again later")
            self.assertEqual(len(self.hub.requests), 3)

    def test_full_disk(self):
        usage = unittest.mock.Mock(free=100)
        with unittest.mock.patch.object(hf_fetch.shutil, "disk_usage", return_value=usage):
            self.expect_error({"model.safetensors": sha256(LARGE)}, "disk space", "Free some space")

    def test_specs_that_cannot_be_meant(self):
        digest = sha256(SMALL)
        for part, files, changes in [
                ("must be a commit", {"a": digest}, {"revision": "main"}),
                ("repo must be", {"a": digest}, {"repo": "org/name/more"}),
                ("repo must be", {"a": digest}, {"repo": "../name"}),
                ("repo_type must be", {"a": digest}, {"repo_type": "space"}),
                ("no path of a file", {"../a": digest}, {}),
                ("no path of a file", {"/a": digest}, {}),
                ("no path of a file", {"a//b": digest}, {}),
                ("Bazel's own files", {"a/BUILD": digest}, {}),
                ("64 hexadecimal digits", {"a": digest[1:]}, {}),
                ("64 hexadecimal digits", {"a": digest.upper()}, {})]:
            code, _, err = self.run_main("fetch", self.write_spec(files, **changes), self.home)
            self.assertEqual(code, 1)
            self.assertIn(part, err)
        self.assertEqual(self.hub.requests, [])

    def test_endpoint(self):
        constants = os.path.join(self.home, "constants.py")
        with open(constants, "w", encoding="utf-8") as file:
            file.write('import os\nraise SystemExit("run")\n_HF_DEFAULT_ENDPOINT = "%s/"\n' % self.hub.endpoint)
        for variables in [{"HF_ENDPOINT": ""}, {"HF_ENDPOINT": self.hub.endpoint + "/"}]:
            shutil.rmtree(self.store(), ignore_errors=True)
            with unittest.mock.patch.dict(os.environ, variables):
                spec = self.write_spec({"config.json": sha256(SMALL)})
                self.assertEqual(self.run_main("fetch", "--client", constants, spec, self.home), (0, "", ""))
        shutil.rmtree(self.store())
        os.environ["HF_ENDPOINT"] = "file:///etc"
        self.expect_error({"config.json": sha256(SMALL)}, "HF_ENDPOINT must be an address")

    def test_pin_prints_what_fetches(self):
        code, out, err = self.run_main("pin", "org/name", "config.json", "model.safetensors")
        self.assertEqual((code, err), (0, ""))
        arguments = eval(out.replace("hf_assets(", "dict(", 1))  # pylint: disable=eval-used
        self.assertEqual(arguments["revision"], COMMIT)
        self.assertEqual(arguments["files"], {"config.json": sha256(SMALL), "model.safetensors": sha256(LARGE)})
        self.assertEqual(self.fetch(arguments["files"])["model.safetensors"], LARGE)
        code, _, err = self.run_main("pin", "--revision", "dev", "org/name", "config.json")
        self.assertEqual(code, 1)
        self.assertIn("Cannot pin org/name: the repository has no revision dev", err)


if __name__ == "__main__":
    hf_fetch = load_script(sys.argv.pop(1))
    unittest.main(warnings="ignore")  # about sockets that a failed request leaves to the garbage collector
