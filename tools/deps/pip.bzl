"""Downloads pinned files with pip, for repository rules.

pip is the downloader because it honours the index, proxy and certificates that the user has configured. It only downloads:
no code of any package runs (see pip_backend/). Every failure is one line: what could not be fetched, why, and what to do.
"""

_PYTHON_VERSION = "3.12"  # Chooses among torch's wheels. No Python of this version is needed.
_DOWNLOAD_TIMEOUT_S = 3600

# What pip or npm writes about a failure, and what it means. The first match counts.
_REASONS = [
    ("No module named pip", "pip is missing. On Debian and Ubuntu: apt-get install python3-pip"),
    ("Got        ", "the file differs from its digest in tools/deps/lock.bzl. Do not use it: correct the digest, or ask the index's owner"),
    ("No space left", "the disk is full. Free some space, or put Bazel's files elsewhere: ./bazelw --output_base=DIRECTORY"),
    ("CERTIFICATE", "the package index's certificate is not trusted here. Name your own with PIP_CERT and NODE_EXTRA_CA_CERTS"),
    ("onnection", "the package index cannot be reached. Check the network, the proxy, and `pip config list` or `npm config list`"),
    ("network", "the package index cannot be reached. Check the network, the proxy, and `pip config list` or `npm config list`"),
    ("No matching distribution", "the package index lacks it. `pip config list` tells which index is in use"),
    ("404", "the package index lacks it. `npm config list` tells which index is in use"),
]

def explain(what, output):
    """The one line that tells why `what` could not be fetched, given the downloader's `output`."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for sign, reason in _REASONS:
        said = [line for line in lines if sign in line]
        if said:
            return _message(what, reason, said[-1])
    return _message(what, "the downloader failed", lines[-1] if lines else "it said nothing")

def _message(what, reason, said):
    # pip's own lines can be very long, and their second half is about pip.
    return "Cannot fetch %s: %s. (%s)" % (what, reason, said if len(said) <= 120 else said[:120] + "...")

def available_mebibytes(df_output):
    """The number in the output of `df --output=avail --block-size=1M PATH`: a heading, and the number, padded."""
    return int(df_output.split("\n")[1].strip())

def require_disk_space(ctx, what, mebibytes):
    """Fails unless the file system of Bazel's output base has room. Otherwise a half-unpacked tree ends in a stack trace."""
    result = ctx.execute(["df", "--output=avail", "--block-size=1M", "."])
    if result.return_code != 0:
        return  # An exotic file system: let the download try.
    free = available_mebibytes(result.stdout)
    if free < mebibytes:
        fail(("Cannot fetch %s: it needs %d MiB of disk space, and %d MiB are free at %s. Free some space, or put Bazel's files " +
              "elsewhere: ./bazelw --output_base=DIRECTORY") % (what, mebibytes, free, ctx.path(".")))

def pip_download(ctx, pin, options, environment = {}):
    """Downloads the one file that `pin` (see lock.bzl) names into ./download, and returns its path."""
    what = "%s %s (%s)" % (pin.package, pin.version, pin.platform)
    python = ctx.which("python3")
    if not python:
        fail("Cannot fetch %s: python3 with pip is needed. On Debian and Ubuntu: apt-get install python3-pip" % what)

    ctx.report_progress("downloading " + what)
    requirements = "pip_files/requirements.txt"
    ctx.file(requirements, "%s==%s --hash=sha256:%s\n" % (pin.package, pin.version, pin.sha256))
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest=download"]
    result = ctx.execute(
        command + options + ["--requirement=" + requirements],
        # pip's temporary files are as large as the wheel: keep them off a small /tmp.
        environment = dict(environment, TMPDIR = str(ctx.path("pip_files"))),
        timeout = _DOWNLOAD_TIMEOUT_S,
    )
    ctx.delete("pip_files")
    if result.return_code != 0:
        fail(explain(what, result.stderr))
    return ctx.path("download").readdir()[0]

def unpack_wheel(ctx, pin, directory = ""):
    """Downloads the wheel that `pin` names and unpacks it into `directory`, beside what is there."""
    wheel = pip_download(ctx, pin, [
        "--only-binary=:all:",
        "--python-version=" + _PYTHON_VERSION,
        "--implementation=cp",
        "--abi=cp" + _PYTHON_VERSION.replace(".", ""),
        "--platform=" + pin.platform,
    ])
    ctx.report_progress("unpacking " + pin.package)
    ctx.symlink(wheel, "wheel.zip")  # Bazel tells the kind of an archive by its name.
    ctx.extract("wheel.zip", output = directory)
    ctx.delete("wheel.zip")
    ctx.delete("download")

def unpack_sdist(ctx, pin, subdirectory, pip_backend):
    """Downloads the source package that `pin` names and unpacks its `subdirectory` (or all of it, if "") here."""
    archive = pip_download(
        ctx,
        pin,
        ["--no-binary=:all:", "--no-build-isolation", "--use-pep517"],
        environment = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(ctx.path(pip_backend).dirname),
        },
    )
    root = archive.basename[:-len(".tar.gz")]
    ctx.extract(archive, stripPrefix = "/".join([part for part in [root, subdirectory] if part]))
    ctx.delete("download")
