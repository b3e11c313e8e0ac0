#!/usr/bin/env python3
"""Prints how well the source keeps the rules of the house: one line a rule, what breaks it below.

Rules: no circle of imports between files, no retired word in a name, no type name with two meanings, short functions,
short files. `--all` lists everything that breaks a rule, instead of the first few. It reads crates/*/src and leaves out
tests; imports are `crate::…` and `super::…` paths, `mod` and `pub use` are not counted.
"""

import argparse
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES = 500
SHOWN = 8

# Words that docs and code used once and that the field calls otherwise; as whole parts of a name.
RETIRED = (
    "wish wishes wished ears letter letters hear hears heard berth berths nursery desk outlet greet legacy successor "
    "voice witness unfiled doomed strays buried pace shares withhold withheld unsure blind doubt hurry patience verdict "
    "becoming mend mends trouble troubles blanks settling"
).split()


def without_tests(text):
    """Returns the text up to its tests, with comments and strings blanked (lines stay lines)."""
    text = re.split(r"(?m)^#\[cfg\(test\)\]\n(?:#\[.*\]\n)*mod ", text)[0]
    blank = lambda found: "\n" * found.group().count("\n")
    return re.sub(r'(?s)//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"', blank, text)


def sources():
    """Yields (crate, path, text) of every file that is no test."""
    for path in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        if path.name != "tests.rs" and "tests" not in path.parts:
            yield path.relative_to(ROOT).parts[1], path, without_tests(path.read_text())


def module_of(path):
    """Returns the module path of a file, as a tuple of names below its crate."""
    parts = list(path.relative_to(ROOT).parts[3:])
    parts[-1] = parts[-1].removesuffix(".rs")
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return tuple(parts)


def imported(text, here):
    """Yields the module paths that a file names, groups in braces resolved."""
    text = re.sub(r"(?s)\bpub(?:\([a-z ]+\))? use [^;]+;", "", text)
    for start in re.finditer(r"\b(crate|super|self)((?:::\w+)*)(::\{)?", text):
        base = {"crate": (), "self": here, "super": here[:-1]}[start.group(1)]
        for name in filter(None, start.group(2).split("::")):
            base = base[:-1] if name == "super" else base + (name,)
        yield base
        if start.group(3):
            for name in names_in_braces(text, start.end()):
                yield base + name


def names_in_braces(text, at):
    """Yields the paths of a group of imports, `at` being behind its opening brace; groups in groups by their base."""
    depth, word, end = 1, "", at
    while depth and end < len(text):
        char = text[end]
        depth += (char == "{") - (char == "}")
        if depth == 1 and char == "," or depth == 0:
            yield tuple(re.findall(r"\w+", word.split("{")[0].split(" as ")[0]))
            word = ""
        else:
            word += char
        end += 1


def circles(files):
    """Returns the groups of files of one crate that need each other."""
    modules = {module_of(path): path for path in files}
    needs = {
        path: {modules[found] for found in map(lambda to: known(to, modules), imported(text, module_of(path))) if found}
        - {path}
        for path, text in files.items()
    }
    return [group for group in components(needs) if len(group) > 1]


def known(path, modules):
    """Returns the longest beginning of a path that is a file; the crate's own root is none."""
    while path and path not in modules:
        path = path[:-1]
    return path


def components(needs):
    """Returns the strongly connected parts of a graph (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(needs[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for node in sorted(needs):
        if node not in index:
            visit(node)
    return found


def functions(text):
    """Yields (name, lines) of each function."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        start = re.match(r"( *)(?:pub(?:\([a-z ]+\))? )?(?:const |async |unsafe )*fn (\w+)", line)
        if start:
            close = start.group(1) + "}"
            length = next((n for n, other in enumerate(lines[number:]) if other == close), 0)
            yield start.group(2), length + 1


def parts(name):
    """Returns the words of an identifier."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def report(title, broken, show):
    print(f"{title}: {len(broken)}")
    for line in broken[: None if show else SHOWN]:
        print(f"    {line}")
    if not show and len(broken) > SHOWN:
        print(f"    … and {len(broken) - SHOWN} more: --all lists them")


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--all", action="store_true", help="list everything")
    show = asked.parse_args().all
    crates = collections.defaultdict(dict)
    for crate, path, text in sources():
        crates[crate][path] = text

    groups = [group for files in crates.values() for group in circles(files)]
    name_of = lambda path: str(path.relative_to(ROOT))
    report("circles of imports", [" ↔ ".join(map(name_of, group)) for group in groups], show)

    retired = collections.Counter()
    types, lengths = collections.defaultdict(set), []
    for files in crates.values():
        for path, text in files.items():
            for name in set(re.findall(r"\b[A-Za-z_]\w+\b", text)):
                retired.update(word for word in parts(name) if word in RETIRED)
            for name in re.findall(r"(?m)^\s*(?:pub(?:\([a-z ]+\))? )?(?:struct|enum|trait|union) (\w+)", text):
                types[name].add(name_of(path))
            lengths += [(length, f"{name} in {name_of(path)}") for name, length in functions(text)]
    report("retired words in names", [f"{word}: in {n} names" for word, n in retired.most_common()], show)
    two = sorted((name, files) for name, files in types.items() if len(files) > 1)
    report("type names that are defined more than once", [f"{n}: {', '.join(sorted(f))}" for n, f in two], show)

    lengths.sort()
    print(f"functions: {len(lengths)}, median {lengths[len(lengths) // 2][0]} lines, longest {lengths[-1][0]}: {lengths[-1][1]}")
    long = [(text.count("\n"), name_of(path)) for files in crates.values() for path, text in files.items()]
    over = sorted((pair for pair in long if pair[0] > FILE_LINES), reverse=True)
    report(f"files of more than {FILE_LINES} lines without their tests", [f"{n} {name}" for n, name in over], show)
    code = {crate: sum(1 for text in files.values() for line in text.split("\n") if line.strip()) for crate, files in crates.items()}
    print(f"lines of code: {sum(code.values())}")
    print("    " + ", ".join(f"{crate} {n}" for crate, n in sorted(code.items(), key=lambda item: -item[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
