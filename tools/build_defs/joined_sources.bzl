"""Sources of third parties that are compiled together.

Most of the time of a small file goes to the headers and templates that the next file needs again: Abseil's 136 files take 40
seconds in one, and ten times that one by one. Ours stay apart, because they change.
"""

def joined_sources(name, srcs, parts, alone = []):
    """Writes `srcs` one after the other into `parts` files.

    Args:
      name: prefix of the files.
      srcs: files of this package.
      parts: so that more than one processor has something to do.
      alone: those of `srcs` whose file-local names collide with another's, or that include headers of their own folder.

    Returns:
      What a cc_library has for `srcs`.
    """
    together = [src for src in srcs if src not in alone]
    outs = ["%s_%d.cc" % (name, part) for part in range(parts)]
    for part in range(parts):
        native.genrule(
            name = "%s_%d" % (name, part),
            srcs = together[len(together) * part // parts:len(together) * (part + 1) // parts],
            outs = [outs[part]],
            cmd = "for file in $(SRCS); do echo \"#line 1 \\\"$$file\\\"\"; cat $$file; done >$@",
        )
    return outs + alone
