"""hf_assets as a user has it: in a workspace, with a Bazel of its own and a local hub.

workspace_test.py FILE: any file of the folder of hf_assets.bzl. Bazel's server ends with the test.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import fake_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKENIZER = b'{"model": {"type": "BPE"}}'
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = bytes(range(256)) * 40
SHARD = b'{"text": "a"}\n'


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def has_bazel():
    try:
        return subprocess.run(["bazel", "--version"], env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


def rule(name, repo, files, **more):
    """A call of hf_assets, as a user writes it."""
    attributes = dict({"name": name, "repo": repo, "files": files, "revision": COMMIT}, **more)
    return "hf_assets(\n%s)\n" % "".join("    %s = %r,\n" % item for item in sorted(attributes.items()))


class Workspace:
    """A folder with the rule in it, and the hub that it asks."""

    def __init__(self, rule_folder):
        self.root = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        self.home = os.path.join(self.root, "home")
        self.tree = os.path.join(self.root, "tree")
        self.output_base = None
        self.hub = fake_hub.FakeHub().__enter__()
        tools = os.path.join(self.tree, "tools", "hf_assets")
        os.makedirs(tools)
        os.makedirs(self.home)
        for name in ["folder.txt", "hf_assets.bzl", "hf_fetch.py"]:
            shutil.copyfile(os.path.join(rule_folder, name), os.path.join(tools, name))
        self.write("tools/hf_assets/BUILD.bazel", "")
        self.write("BUILD.bazel", 'filegroup(name = "corpus", srcs = ["@data//:shards"])\n')

    def write(self, path, text):
        with open(os.path.join(self.tree, path), "w", encoding="utf-8") as file:
            file.write(text)

    def declare(self, *rules):
        self.write("WORKSPACE", 'workspace(name = "titan")\n'
                   'load("//tools/hf_assets:hf_assets.bzl", "hf_assets")\n' + "".join(rules))

    def bazel(self, *arguments, **variables):
        """(exit code, everything that it says)"""
        environment = {"HOME": self.home, "PATH": os.environ["PATH"], "HF_ENDPOINT": self.hub.endpoint, "no_proxy": "*"}
        environment.update(variables)
        command = ["bazel", "--noworkspace_rc", "--nohome_rc", "--max_idle_secs=60", "--connect_timeout_secs=120",
                   "--output_user_root=" + os.path.join(self.root, "bazel")]
        # A server that starts fast and lives for seconds.
        command += ["--host_jvm_args=" + flag for flag in ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]]
        done = subprocess.run(command + list(arguments), cwd=self.tree, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=240, check=False)
        return done.returncode, done.stdout.decode()

    def close(self):
        self.bazel("shutdown")
        self.hub.__exit__()
        shutil.rmtree(self.root, ignore_errors=True)  # some of Bazel's folders are read-only


class HfAssetsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not has_bazel():
            raise unittest.SkipTest("there is no bazel, or only one that would be fetched first")
        cls.workspace = Workspace(RULE_FOLDER)
        cls.addClassCleanup(cls.workspace.close)
        cls.workspace.declare()
        code, output = cls.workspace.bazel("info", "output_base")
        if code != 0:
            raise RuntimeError(output)
        cls.workspace.output_base = output.strip().splitlines()[-1]
        cls.workspace.hub.add("org/model", COMMIT, {"tokenizer.json": TOKENIZER, "config.json": CONFIG},
                              large={"model.safetensors": WEIGHTS})
        cls.workspace.hub.add("org/data", COMMIT, {"en/0.jsonl": SHARD, "en/1.jsonl": SHARD + SHARD}, kind="datasets")

    def setUp(self):
        self.workspace.hub.requests.clear()
        self.workspace.hub.token = self.workspace.hub.status = None

    def build(self, *targets, **variables):
        code, output = self.workspace.bazel("build", "--symlink_prefix=/", "--jobs=1", *targets, **variables)
        self.assertEqual(code, 0, output)

    def expect_error(self, *targets, **variables):
        """What Bazel says."""
        code, output = self.workspace.bazel("build", "--symlink_prefix=/", "--jobs=1", "--keep_going", *targets,
                                            **variables)
        self.assertNotEqual(code, 0, output)
        return output

    def fetched(self, name, path):
        with open(os.path.join(self.workspace.output_base, "external", name, path), "rb") as file:
            return file.read()

    def test_what_is_pinned_comes(self):
        contents = {"tokenizer.json": TOKENIZER, "config.json": CONFIG, "model.safetensors": WEIGHTS}
        files = {path: sha256(content) for path, content in contents.items()}
        shards = {"en/0.jsonl": sha256(SHARD), "en/1.jsonl": sha256(SHARD + SHARD)}
        data = rule("data", "org/data", shards, groups={"shards": ["en/1.jsonl"]}, repo_type="dataset")
        self.workspace.declare(rule("model", "org/model", files), data)
        self.build("@model//:tokenizer.json", "@model//:files", "//:corpus", "@data//:en/0.jsonl")
        for path, content in contents.items():
            self.assertEqual(self.fetched("model", path), content)
        self.assertEqual(self.fetched("data", "en/1.jsonl"), SHARD + SHARD)
        asked = self.workspace.hub.requests
        self.assertEqual([server for server, _, _, _ in asked].count("hub"), 5, asked)
        self.assertEqual([server for server, _, _, _ in asked].count("storage"), 1, asked)

        # What has come is there for all: no network is needed.
        asked.clear()
        self.workspace.declare(rule("again", "org/model", files), data)
        code, output = self.workspace.bazel("fetch", "@again//:files", HF_ENDPOINT="http://127.0.0.1:1")
        self.assertEqual(code, 0, output)
        self.assertEqual(self.fetched("again", "model.safetensors"), WEIGHTS)
        self.assertEqual(asked, [])

    def test_what_is_not_pinned_does_not_come(self):
        other = sha256(b"another")
        cases = {
            "digest": ({"tokenizer.json": other}, {}, "Cannot fetch tokenizer.json of org/model: what came has the "
                       "sha256 " + sha256(TOKENIZER)),
            "large": ({"model.safetensors": other}, {}, "the hub's file has the sha256 " + sha256(WEIGHTS)),
            "missing": ({"tokeniser.json": other}, {}, "no such file (404). Did you mean tokenizer.json"),
            "branch": ({"tokenizer.json": sha256(TOKENIZER)}, {"revision": "main"}, "revision must be a commit"),
            "commit": ({"tokenizer.json": other}, {"revision": "f" * 40}, "no revision " + "f" * 40),
            "nobody": ({"tokenizer.json": other}, {"repo": "org/nobody"}, "no such model (404)"),
            "group": ({"tokenizer.json": other}, {"groups": {"a": ["b"]}}, "groups: b of \"a\" is not one of files"),
        }
        self.workspace.declare(*[
            rule(name, **dict({"repo": "org/model", "files": files}, **more)) for name, (files, more, _) in cases.items()
        ])
        output = self.expect_error(*["@%s//:files" % name for name in cases])
        for name, (_, _, message) in cases.items():
            with self.subTest(name):
                lines = [line for line in output.splitlines() if "hf_assets %s: " % name in line]
                self.assertTrue(lines, output)
                self.assertIn(message, lines[0])

    def test_a_repository_that_asks_who_one_is(self):
        self.workspace.hub.token = "hf_right"
        content = b"only for some"
        self.workspace.hub.add("org/gated", COMMIT, {"tokenizer.json": content})
        self.workspace.declare(rule("gated", "org/gated", {"tokenizer.json": sha256(content)}))
        target = "@gated//:tokenizer.json"
        output = self.expect_error(target)
        self.assertIn("(401)", output)
        self.assertIn("Log in", output)
        output = self.expect_error(target, HF_TOKEN="hf_wrong")
        self.assertIn("token of HF_TOKEN (401)", output)
        self.assertNotIn("hf_wrong", output)
        self.workspace.hub.status = (403, "GatedRepo")
        self.assertIn("Ask for it", self.expect_error(target, HF_TOKEN="hf_right"))
        self.workspace.hub.status = None
        self.build(target, HF_TOKEN="hf_right")
        self.assertEqual(self.fetched("gated", "tokenizer.json"), content)


if __name__ == "__main__":
    RULE_FOLDER = os.path.dirname(os.path.abspath(sys.argv.pop(1)))
    unittest.main()
