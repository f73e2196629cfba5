#!/usr/bin/env python3
"""The checks that no lint knows: layering, unused dependencies, licences, file headers, sizes, stray unwraps.

Layering is the table of ARCHITECTURE.md, checked against `cargo metadata`. Prints every violation and exits 1.
"""

import json
import pathlib
import re
import subprocess
import sys

# Who may depend on whom among ours. testkit and bench may depend on anything; nothing but tests depends on them.
ALLOWED = {
    "remaster-domain": set(),
    "remaster-service": set(),
    "remaster-proto": {"domain"},
    "remaster-store": {"domain"},
    "remaster-media": {"domain"},
    "remaster-pairs": {"domain"},
    "remaster-model": {"domain"},
    "remaster-coordinator": {"proto", "store", "service", "domain"},
    "remaster-worker": {"proto", "store", "service", "media", "pairs", "model", "domain"},
    "remaster-trainer": {"proto", "store", "service", "model", "domain"},
    "remaster-cli": {"proto", "store", "service", "domain"},
}
FREE = {"remaster-testkit", "remaster-bench"}
# Crates that only one of ours may name.
ONLY = {"object_store": "remaster-store", "tch": "remaster-model", "sqlx": "remaster-coordinator"}
# Named by generated code alone.
GENERATED = {("remaster-proto", "tonic-prost")}
# What may be linked: nothing that asks more than naming the authors, or than giving back changes to the library itself.
LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip
# Carry a licence file instead of a name: read, and found to be Apache-2.0.
LICENCE_FILES_READ = {"cfg_block"}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

problems = []


def metadata():
    text = subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"])
    return json.loads(text)["packages"]


def linked():
    """Every package of the lock file that this platform builds."""
    platform = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    command = ["cargo", "metadata", "--format-version", "1", "--offline", "--filter-platform", platform]
    return json.loads(subprocess.check_output(command))["packages"]


def check_licence(package):
    name, expression = package["name"], package["license"]
    if expression is None:
        if name not in LICENCE_FILES_READ:
            problems.append(f"{name} names no licence: read its licence file")
        return
    # One of several is enough; where a package joins some by AND, every name in it must do.
    names = [word.strip() for word in re.split(r" AND | OR |[()/]", expression) if word.strip()]
    enough = all if " AND " in expression else any
    if not enough(name in LICENCES for name in names):
        problems.append(f"{package['name']} has licence {expression}, which is not among those that may be linked")


def check_layering(package):
    name = package["name"]
    for dependency in package["dependencies"]:
        target, kind = dependency["name"], dependency["kind"]
        if target in ONLY and ONLY[target] != name and kind is None and name not in FREE:
            problems.append(f"{name} names {target}, which only {ONLY[target]} may")
        if name in FREE or not target.startswith("remaster-"):
            continue
        if target in FREE:
            if kind != "dev":
                problems.append(f"{name} depends on {target} outside its tests")
        elif kind is None and target.removeprefix("remaster-") not in ALLOWED[name]:
            problems.append(f"{name} must not depend on {target}")


def check_unused(package):
    root = pathlib.Path(package["manifest_path"]).parent
    sources = "\n".join(path.read_text() for path in root.rglob("*.rs"))
    for dependency in package["dependencies"]:
        word = (dependency["rename"] or dependency["name"]).replace("-", "_")
        if (package["name"], dependency["name"]) not in GENERATED and not re.search(rf"\b{word}\b", sources):
            problems.append(f"{package['name']} does not use {dependency['name']}")


def check_workspace_dependencies(packages):
    root = pathlib.Path("Cargo.toml").read_text()
    declared = re.search(r"\[workspace\.dependencies\]\n(.*?)\n\[", root, re.S).group(1)
    names = re.findall(r"^([\w-]+) *=", declared, re.M)
    used = {dependency["name"] for package in packages for dependency in package["dependencies"]}
    for name in names:
        if name not in used:
            problems.append(f"Cargo.toml: workspace dependency {name} is not used")


def production_lines(text):
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if re.match(r"\s*#\[cfg\(test\)\]", line):
            return lines[:number]
    return lines


def has_body(lines):
    """Whether a function that begins here is more than a declaration."""
    return next((line for line in lines if re.search(r"[{;}]\s*$", line)), "").rstrip().endswith(("{", "}"))


def check_file(path):
    text = path.read_text()
    if not text.lstrip().startswith("//!"):
        problems.append(f"{path}: no //! header")
    if "tests" in path.parts or path.stem == "tests" or path.stem.endswith("_tests"):
        return
    lines = production_lines(text)
    if len(lines) > FILE_LINES_MAX:
        problems.append(f"{path}: {len(lines)} lines, at most {FILE_LINES_MAX}")
    for number, line in enumerate(lines):
        if ".unwrap()" in line and not line.lstrip().startswith("//"):
            problems.append(f"{path}:{number + 1}: unwrap outside tests")
        function = re.match(r"(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe )*fn (\w+)", line)
        if function and has_body(lines[number:]):
            end = next((i for i in range(number, len(lines)) if lines[i] == function.group(1) + "}"), number)
            if end - number + 1 > FUNCTION_LINES_MAX:
                problems.append(f"{path}:{number + 1}: fn {function.group(2)} has {end - number + 1} lines")


def main():
    packages = metadata()
    for package in packages:
        check_layering(package)
        check_unused(package)
    check_workspace_dependencies(packages)
    for package in linked():
        check_licence(package)
    tracked = subprocess.check_output(["git", "ls-files", "*.rs"], text=True).split()
    for name in tracked:
        check_file(pathlib.Path(name))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"check: {len(packages)} packages, {len(tracked)} files: layering, dependencies, licences, headers and sizes hold")


if __name__ == "__main__":
    main()
