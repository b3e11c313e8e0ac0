#!/usr/bin/env python3
"""Prints how well the source keeps the rules of the house: one line a rule, what breaks it below.

Rules: no circle of imports between files, no retired word in a name, no retired phrase in a text, no type name with two
meanings, short functions, short files. `--all` lists everything that breaks a rule, instead of the first few; `--check`
prints nothing but what breaks a rule that admits no exception, and ends with 1 if something does. Names, imports and
lengths are those of crates/*/src without tests; phrases are looked for in tests and documents as well. Imports are
`crate::…` and `super::…` paths, `mod` and `pub use` are not counted.
"""

import argparse
import collections
import pathlib
import re
import subprocess
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

# The same in comments, messages and documents, where a part of a word is not enough.
PHRASES = (
    r"\bwish(es|ed|er|ing)?\b",
    r"\bmend(s|ed|ing)?\b",
    r"\bnot as ordered\b",
    r"\bberths?\b",
    r"\bnursery\b",
    r"\bunfiled\b",
    r"\bunsure\b",
    r"\b(loses?|lost) patience\b",
    r"\bears\b",
    r"\bdoomed\b",
    r"\bstrays?\b",
    r"\bthe witness\b",
)


def own_text():
    """Yields (name, text) of the project's own files, as git lists them, this one left out."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    for name in listed:
        path = ROOT / name
        if path.suffix in (".rs", ".md", ".sh", ".py", ".toml") and path.is_file() and path != pathlib.Path(__file__).resolve():
            yield name, path.read_text(errors="replace")


def phrases():
    """Yields (place, phrase) of each retired phrase."""
    pattern = re.compile("|".join(PHRASES), re.IGNORECASE)
    for name, text in own_text():
        if name.endswith(".md"):  # Old names of keys and files are quoted as code.
            text = re.sub(r"`[^`\n]*`", "", text)
        for number, line in enumerate(text.split("\n"), 1):
            for found in pattern.finditer(line):
                yield f"{name}:{number}", found.group()


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


class Report:
    """Prints rules; with `check`, only those that are broken and admit no exception."""

    def __init__(self, show, check):
        self.show, self.check, self.failed = show, check, False

    def rule(self, title, broken, strict=True):
        """Prints one rule and what breaks it; `strict` rules admit no exception."""
        if self.check and not (strict and broken):
            return
        self.failed |= strict and bool(broken)
        print(f"{title}: {len(broken)}")
        shown = None if self.show or self.check else SHOWN
        for line in broken[:shown]:
            print(f"    {line}")
        if shown and len(broken) > shown:
            print(f"    … and {len(broken) - shown} more: --all lists them")

    def say(self, line):
        """Prints what is no rule."""
        if not self.check:
            print(line)


def name_of(path):
    return str(path.relative_to(ROOT))


def retired_names(crates):
    """Returns the retired words that are in names, with the number of such names."""
    retired = collections.Counter()
    for files in crates.values():
        for text in files.values():
            for name in set(re.findall(r"\b[A-Za-z_]\w+\b", text)):
                retired.update(word for word in parts(name) if word in RETIRED)
    return [f"{word}: in {n} names" for word, n in retired.most_common()]


def types_with_two_meanings(crates):
    """Returns the type names that several files define."""
    types = collections.defaultdict(set)
    for files in crates.values():
        for path, text in files.items():
            for name in re.findall(r"(?m)^\s*(?:pub(?:\([a-z ]+\))? )?(?:struct|enum|trait|union) (\w+)", text):
                types[name].add(name_of(path))
    return [f"{name}: {', '.join(sorted(files))}" for name, files in sorted(types.items()) if len(files) > 1]


def codes_without_use():
    """Returns the behaviours of docs/behaviour.md that nothing cites; scripts/check-docs.sh looks for the reverse."""
    known = set(re.findall(r"(?m)^- \*\*([A-Z]+[-.][0-9]+(?:-[0-9]+)?)\*\*: ", (ROOT / "docs/behaviour.md").read_text()))
    cited = set()
    for name, text in own_text():
        if name != "docs/behaviour.md":
            for family, first, last in re.findall(r"\b([A-Z]+)-(\d+) to \1-(\d+)\b", text):
                cited.update(f"{family}-{number}" for number in range(int(first), int(last) + 1))
            cited.update(re.findall(r"\b(?:[A-Z]+-\d+|[A-Z]\.\d+(?:-\d+)?)\b", text))
    return sorted(known - cited)


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--all", action="store_true", help="list everything")
    asked.add_argument("--check", action="store_true", help="list what breaks a rule, and end with 1 if something does")
    asked = asked.parse_args()
    crates = collections.defaultdict(dict)
    for crate, path, text in sources():
        crates[crate][path] = text
    report = Report(asked.all, asked.check)

    groups = [group for files in crates.values() for group in circles(files)]
    report.rule("circles of imports", [" ↔ ".join(map(name_of, group)) for group in groups])
    report.rule("retired words in names", retired_names(crates))
    report.rule("retired phrases in texts", [f"{place}: {phrase}" for place, phrase in phrases()])
    report.rule("type names that are defined more than once", types_with_two_meanings(crates))
    report.rule("behaviours that nothing cites", codes_without_use())

    lengths = sorted(
        (length, f"{name} in {name_of(path)}")
        for files in crates.values()
        for path, text in files.items()
        for name, length in functions(text)
    )
    report.say(f"functions: {len(lengths)}, median {lengths[len(lengths) // 2][0]} lines, longest {lengths[-1][0]}: {lengths[-1][1]}")
    long = [(text.count("\n"), name_of(path)) for files in crates.values() for path, text in files.items()]
    over = sorted((pair for pair in long if pair[0] > FILE_LINES), reverse=True)
    report.rule(f"files of more than {FILE_LINES} lines without their tests", [f"{n} {name}" for n, name in over], strict=False)
    code = {crate: sum(1 for text in files.values() for line in text.split("\n") if line.strip()) for crate, files in crates.items()}
    report.say(f"lines of code: {sum(code.values())}")
    report.say("    " + ", ".join(f"{crate} {n}" for crate, n in sorted(code.items(), key=lambda item: -item[1])))
    return int(asked.check and report.failed)


if __name__ == "__main__":
    sys.exit(main())
