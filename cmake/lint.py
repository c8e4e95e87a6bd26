"""clang-tidy as a build: git ls-files | lint.py OUTPUT BUILD... writes OUTPUT/compile_commands.json and OUTPUT/build.ninja.

A source is one that git has and that a build's compile_commands.json has; the first build counts. It is read again when
the source, one of its headers, a .clang-tidy or its command has changed.
"""
import json
import os
import pathlib
import re
import sys

# The compiler lists the headers, because clang-tidy cannot. Tables take more steps than clang allows at first.
RULES = """rule tidy
  command = c++ $flags -M -MF $out.d -MT $out $in && clang-tidy-14 -p . --quiet $
    --extra-arg=-fconstexpr-steps=100000000 $in > $out.log 2>&1 && touch $out || { grep -v 'warnings* generated' $out.log; $
    exit 1; }
  depfile = $out.d
  deps = gcc
  description = clang-tidy $in
"""


def main():
    output, *builds = map(pathlib.Path, sys.argv[1:])
    tracked = {os.path.abspath(line.rstrip("\n")) for line in sys.stdin}
    commands = {}
    for build in builds:
        for each in json.loads((build / "compile_commands.json").read_text()):
            # Of GCC's, clang does not know the option, nor read the precompiled header.
            each["command"] = re.sub(" -fno-gnu-unique| -Winvalid-pch -include [^ ]*", "", each["command"])
            commands.setdefault(each["file"], each)
    configurations = " ".join(sorted(path for path in tracked if path.endswith(".clang-tidy")))
    lines = [RULES]
    for file in sorted(tracked & commands.keys()):
        name = os.path.relpath(file).replace("/", ".")
        # Without the compiler, its output and its input.
        flags = commands[file]["command"].split(" -o ")[0].split(" ", 1)[1].replace("$", "$$")
        lines.append(f"build {name}: tidy {file} | {configurations}\n  flags = {flags}\n")
    (output / "build.ninja").write_text("\n".join(lines))
    (output / "compile_commands.json").write_text(json.dumps(list(commands.values()), indent=1))


if __name__ == "__main__":
    main()
