#!/usr/bin/env python3
"""Prints how well the source keeps the rules of the house: one line for each rule, and below it
what breaks the rule.

Rules:
  - no circle between files: of imports (`crate::…` and `super::…` paths; `mod` and `pub use` are not
    counted), and of calls of methods of one type that several files define (`self.…()`, `Self::…()`)
  - no retired word in a name, and no retired phrase in a text
  - no type name with two meanings
  - no comment that only repeats the name of what it describes, and no message with a run of blanks
  - no exit code that is written as a number
  - no more than PARTS parts of the supervisor, and no field of a part that another file can touch
  - each behaviour that is cited is in docs/design/behaviour.md, and each behaviour there is cited
  - no function of more than FUNCTION_LINES lines (but for TABLES), no file of more than FILE_LINES
    lines
  - no comment and no line of a document of more than COMMENT_COLUMNS columns (tables and URLs may
    be wider, and so may what a program prints: blocks of code that begin with ```console)
  - no look at a file by the programs that report (REPORTING) but through a door that notes a
    refusal, except in OTHER_LOOKS

Circles, types and lengths are those of crates/*/src without tests. Names and comments are those of
every Rust file, phrases those of scripts and documents as well. `--all` lists everything that
breaks a rule, instead of the first few. `--check` prints only what breaks a rule, and ends with 1
if something does.
"""

import argparse
import ast
import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES = 500
FUNCTION_LINES = 60
# Functions that are one table each, such as a row for each cause, and their lengths today. They may
# become shorter, and never longer.
TABLES = {
    "of in crates/doctor/src/explain/remedy.rs": 71,
    "print_details in crates/gatevisor/src/status.rs": 65,
    "new in crates/gateways/src/inspect/report.rs": 66,
}
# The supervisor's parts, which its dispatcher's files share.
PARTS = 19
COMMENT_COLUMNS = 100
# Files whose comments begin with `#`.
HASHED = (".sh", ".py", ".toml", ".yaml", ".yml", ".service", "Makefile", "Dockerfile")
TEXTS = (".rs", ".md", ".sh", ".py", ".toml", ".yaml", ".yml", ".json", ".service")
# What looks like the number of a behaviour, and is something else.
NO_BEHAVIOURS = {"UTF", "IST", "BSD", "SSH", "NAME"}
SHOWN = 8

# Words that docs and code used once and that the field calls otherwise; as whole parts of a name.
# `words`, `turn`, `places`, `file` and `numbers` were used for other things, too, but have ordinary
# meanings and are not refused.
RETIRED = (
    "wish wishes wished ears letter letters hear hears heard berth berths nursery desk outlet greet legacy successor "
    "voice witness unfiled doomed strays buried pace shares withhold withheld unsure blind doubt hurry patience verdict "
    "becoming mend mends trouble troubles blanks settling unending trespass keeping talk "
    "book captured birth apart"
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
    r"\bon (its|their) way\b",
    r"\bdoomed\b",
    r"\bstrays?\b",
    r"\bthe witness\b",
    r"\b(hears?|heard)\b",
    r"\bpatience\b",
    r"\bsuccessors?\b",
    r"\b(its|the|first|second|every|both) letters? (of|came|comes|come) (its |the |a )?(supervisor|service|death|gateway)\b",
)


# The crates of commands that report what there is. Who may not look must be told so, and not that
# there is nothing, so they look through `gatevisor_paths` and `gatevisor_sys::file`, which note
# every refusal (`gatevisor_sys::refused`).
REPORTING = ("client", "doctor", "gateways", "gatevisor", "logreader")
LOOK = re.compile(
    r"\b(?:openat2?|statat|accessat|access)\(|\bfs::(?:read|read_to_string|metadata|symlink_metadata|read_dir|read_link"
    r"|canonicalize|exists)\(|\bFile::open\(|OpenOptions|\.(?:exists|try_exists)\(\)"
    r"|(?:Path::new\([^)]*\)|scandir|candidate|directory|dir|path)\.is_(?:dir|file|symlink)\(\)"
)
# Files that look otherwise, and why nobody is told something untrue because of it.
OTHER_LOOKS = {
    "client/src/dir.rs": "it notes the refusal itself",
    "client/src/exec_watch.rs": "what the kernel tells of a process",
    "client/src/subscription.rs": "it makes a FIFO; a refusal is its error",
    "doctor/src/gather/booting.rs": "this program, and the file of process 1",
    "doctor/src/gather/locks.rs": "what the kernel tells of a process",
    "doctor/src/gather/lost.rs": "what the kernel tells of a process",
    "doctor/src/gather/memory.rs": "what the kernel tells of a control group",
    "doctor/src/gather/mod.rs": "this program, and marks of the image in /",
    "gateways/src/agent/remember.rs": "a refusal is its error",
    "gateways/src/desired/lock.rs": "it makes a lock; a refusal is its error",
    "gateways/src/desired/write.rs": "it writes; a refusal of the write is its error",
    "gateways/src/drain/record.rs": "it makes a lock; a refusal is its error",
    "gateways/src/files.rs": "it writes; a refusal is its error",
    "gateways/src/incidents/command.rs": "a file of /dev",
    "gateways/src/incidents/processes.rs": "what the kernel tells of a process",
    "gateways/src/live/command.rs": "a file of /dev",
    "gateways/src/live/process.rs": "what the kernel tells of a process",
    "gateways/src/live/publish.rs": "the watcher's own files",
    "gateways/src/live/slot.rs": "the watcher, which tells what it missed",
    "gateways/src/profile/allot.rs": "a file of /dev",
    "gateways/src/reconcile/boot_log.rs": "it writes; a refusal is its error",
    "gateways/src/slots/publish.rs": "it writes a slot anew; who may not look may not write",
    "gateways/src/variables.rs": "a refusal is its error",
    "gatevisor/src/container_scandir.rs": "links of root's in /run, which everybody may look at",
    "gatevisor/src/detach.rs": "it writes; a refusal is its error",
    "gatevisor/src/enter.rs": "whether the kernel executes it is the question",
    "gatevisor/src/host_service/former.rs": "a refusal is its error",
    "gatevisor/src/host_service/mod.rs": "a refusal is its error",
    "gatevisor/src/host_service/systemctl.rs": "a directory of systemd's, which everybody may look at",
    "gatevisor/src/import.rs": "a new home; a refusal is its error",
    "gatevisor/src/init.rs": "the boot of a container, as root",
    "gatevisor/src/init/become_supervisor.rs": "the boot of a container, as root",
    "gatevisor/src/init/home.rs": "the boot of a container, as root",
    "gatevisor/src/interrupt.rs": "what the kernel tells of this process",
    "gatevisor/src/planned_stop.rs": "what the kernel tells of a process",
    "gatevisor/src/supervise.rs": "the supervisor, which fails where it may not look",
    "logreader/src/names.rs": "a refusal is its error",
    "logreader/src/source.rs": "a refusal is its error",
}


def own_text():
    """Yields (name, text) of the project's own files, as git lists them, this one left out."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    for name in listed:
        path = ROOT / name
        is_text = path.suffix in TEXTS or path.name in ("Makefile", "Dockerfile")
        if is_text and path.is_file() and path != pathlib.Path(__file__).resolve():
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
    """Returns the text up to its tests, with comments and strings removed (lines stay lines)."""
    return code_of(re.split(r"(?m)^#\[cfg\(test\)\]\n(?:#\[.*\]\n)*mod \w+ \{", text)[0])


def code_of(text):
    """Returns the text without comments and strings (lines stay lines)."""
    newlines = lambda found: "\n" * found.group().count("\n")
    return re.sub(r'(?s)//[^\n]*|/\*.*?\*/|b?\'(?:\\[^\']+|\\.|[^\'\\])\'|b?r(#+)".*?"\1|b?"(?:\\.|[^"\\])*"', newlines, text)


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


def imported(text, here, children):
    """Yields the paths that a file names, as tuples of names below its crate, groups in braces
    resolved. Its own modules are named without `self::`, too."""
    text = re.sub(r"(?s)\bpub(?:\([a-z: ]+\))? use [^;]+;", "", text)
    text = re.sub(rf"(?<![\w:.])(?=(?:{'|'.join(children)})::)", "self::", text) if children else text
    for start in re.finditer(r"\b(crate|super|self)((?:::\w+)*)(::\{)?", text):
        base = {"crate": (), "self": here, "super": here[:-1]}[start.group(1)]
        for name in filter(None, start.group(2).split("::")):
            base = base[:-1] if name == "super" else base + (name,)
        if start.group(3):
            for name in names_in_braces(text, start.end()):
                yield base + tuple(part for part in name if part != "self")
        elif start.group(2):
            yield base


def exported(text, here, children):
    """Returns what a file exports of other modules: the path of each, by its name."""
    text = "\n".join(re.findall(r"(?s)\bpub(?:\([a-z: ]+\))? (use [^;]+;)", text))
    paths = [path for path in imported(text, here, children) if path]
    return {path[-1]: path for path in paths}


def names_in_braces(text, at):
    """Yields the paths of a group of imports, `at` being behind its opening brace; groups in groups
    by their base."""
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
    children = {here: [other[-1] for other in modules if other and other[:-1] == here] for here in modules}
    exports = {here: exported(files[path], here, children[here]) for here, path in modules.items()}
    needs = {
        path: {modules[defined(to, here, modules, exports)] for to in imported(text, here, children[here])} - {path}
        for here, path, text in ((module_of(path), path, text) for path, text in files.items())
    }
    for user, definer in calls_of_own_methods(files):
        needs[user].add(definer)
    return [group for group in components(needs) if len(group) > 1]


def calls_of_own_methods(files):
    """Yields (file, other file): a method in one calls a method of its own type in the other."""
    definers, bodies = collections.defaultdict(dict), []
    for path, text in files.items():
        for found in re.finditer(r"(?ms)^impl\b(?:<[^{]*?>)? (?:[\w:<>', ]+ for )?(\w+)[^{;]*\{\n(.*?)^\}", text):
            bodies.append((found.group(1), path, found.group(2)))
            for name in re.findall(r"\bfn (\w+)", found.group(2)):
                definers[found.group(1)].setdefault(name, path)
    for kind, path, body in bodies:
        for name in re.findall(r"\b(?:self\s*\.|Self::)(\w+)\s*\(", body):
            if definers[kind].get(name, path) != path:
                yield path, definers[kind][name]


def defined(path, user, modules, exports):
    """Returns the module that a path leads to: the longest beginning that is a file. What a module
    exports of others is its own for those outside of it, and the others' for its own files."""
    for _ in range(8):
        here = path
        while here not in modules:
            here = here[:-1]
        further = exports[here].get(path[len(here)]) if len(path) > len(here) and user[:len(here)] == here else None
        if not further or further == path:
            return here
        path = further + path[len(here) + 1:]
    return here


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
        start = re.match(r'( *)(?:pub(?:\([a-z:_ ]+\))? )?(?:const |async |unsafe |extern +)*fn (\w+)', line)
        if start:
            close = start.group(1) + "}"
            length = next((n for n, other in enumerate(lines[number:]) if other == close), 0)
            yield start.group(2), length + 1


def parts(name):
    """Returns the words of an identifier."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


class Report:
    """Prints rules; with `check`, only those that are broken."""

    def __init__(self, show, check):
        self.show, self.check, self.failed = show, check, False

    def rule(self, title, broken):
        """Prints one rule and what breaks it."""
        if self.check and not broken:
            return
        self.failed |= bool(broken)
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


def rust_files():
    """Yields (name, text) of every Rust file, tests included."""
    return ((name, text) for name, text in own_text() if name.endswith(".rs"))


def retired_names():
    """Returns the names that contain a retired word, with the first file of each."""
    found = {}
    for file, text in rust_files():
        for name in re.findall(r"\b[A-Za-z_]\w+\b", code_of(text)):
            if any(word in RETIRED for word in parts(name)):
                found.setdefault(name, file)
    return [f"{name}: {file}" for name, file in sorted(found.items())]


def lines_of_docs(text):
    """Returns the numbers of the lines of a Python file that belong to docs of modules, classes and
    functions."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            found.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return found


def wide_comments():
    """Returns the places of comments that are too wide. Rows of tables and URLs cannot be
    divided."""
    found = []
    for name, text in own_text():
        is_rust = name.endswith(".rs")
        if not is_rust and not name.endswith(HASHED):
            continue
        begin = re.compile(r" *//(?![/!]? *\|)" if is_rust else r" *#(?!!| shellcheck)")
        docs = lines_of_docs(text) if name.endswith(".py") else ()
        for number, line in enumerate(text.split("\n"), 1):
            is_comment = begin.match(line) or number in docs
            if is_comment and len(line) > COMMENT_COLUMNS and "://" not in line:
                found.append(f"{name}:{number}: {len(line)} columns")
    return found


def wide_documents():
    """Returns the places of lines in documents that are too wide. A single word cannot be
    divided."""
    found = []
    for name, text in own_text():
        if not name.endswith(".md"):
            continue
        is_output = False
        for number, line in enumerate(text.split("\n"), 1):
            if line.startswith("```"):
                is_output = line == "```console"
            may_be_wide = is_output or line.lstrip().startswith("|") or "://" in line or len(line.split()) < 2
            if len(line) > COMMENT_COLUMNS and not may_be_wide:
                found.append(f"{name}:{number}: {len(line)} columns")
    return found


ITEM = re.compile(
    r" *(?:pub(?:\([a-z:_ ]+\))? )?(?:(?:struct|enum|trait|union|type|fn|const|static|mod|unsafe|async) )*(\w+)(.*)"
)
# Words that say nothing about what has the comment.
EMPTY_WORDS = "the a an of it its is this that one which why who where when what how".split()
# Words for things of which there are many: the doc of a field must say which of them it is, and so
# must a doc of two words.
VAGUE_WORDS = (
    "name path pid file directory process profile gateway service supervisor result reason answer word event home "
    "happen happened happens failed left"
).split()


def words_of(text):
    """Returns the words of a text in lower case, plurals as singulars."""
    return {word.lower().rstrip("s") for word in re.findall(r"[A-Za-z0-9]+", text)}


def empty_comments():
    """Returns the places of comments of one line that say no more than the name below them, and for
    a field its type."""
    empty = words_of(" ".join(EMPTY_WORDS))
    vague = empty | words_of(" ".join(VAGUE_WORDS))
    found = []
    for file, text in rust_files():
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1], 1):
            comment = re.match(r" *///(?!/) ?(.*)", line)
            if not comment or any(other.lstrip().startswith("///") for other in (lines[number - 2], lines[number])):
                continue
            item = ITEM.match(next((other for other in lines[number:] if not other.lstrip().startswith("#[")), ""))
            if not item:
                continue
            is_field = re.match(r": (?!:)", item.group(2)) and " const " not in item.group()
            named = " ".join(parts(item.group(1)) + (parts(item.group(2)) if is_field else []))
            is_vague = is_field or len(comment.group(1).split()) <= 2
            if words_of(comment.group(1)) - (vague if is_vague else empty) <= words_of(named):
                found.append(f"{file}:{number}: {comment.group(1)}")
    return found


def messages_with_runs_of_blanks():
    """Returns the places of texts in which several blanks stand between two words of a sentence."""
    found = []
    for _, path, _ in sources():
        text = re.sub(r"\\\n *", "", re.split(r"(?m)^#\[cfg\(test\)\]\n", path.read_text())[0])
        for message in re.findall(r'"((?:\\.|[^"\\\n])*)"', text):
            if re.search(r"[a-z,;] {2,}[a-z]", message) and "\\n" not in message:
                found.append(f"{name_of(path)}: {message}")
    return found


def exit_codes_as_numbers():
    """Returns the exit codes that are not taken from the one place, `wire::exit`."""
    pattern = r"const [A-Z_]+: (?:u8|i32) = (?:99|10[0-3]|111|12[5-7]);|\bExitCode::from\(\d+\)|\bEXIT_\w+"
    return [
        f"{name_of(path)}: {found}"
        for _, path, text in sources()
        if name_of(path) != "crates/wire/src/exit.rs"
        for found in re.findall(pattern, text)
    ]


def types_with_two_meanings(crates):
    """Returns the type names that several files define."""
    types = collections.defaultdict(set)
    for files in crates.values():
        for path, text in files.items():
            # A type of a trait (`type Err = …`) is indented, and has the trait's name for it.
            for name in re.findall(r"(?m)^(?:\s*(?:pub(?:\([a-z ]+\))? )?(?:struct|enum|trait|union)|(?:pub(?:\([a-z ]+\))? )?type) (\w+)", text):
                types[name].add(name_of(path))
    return [f"{name}: {', '.join(sorted(files))}" for name, files in sorted(types.items()) if len(files) > 1]


def codes_cited_wrongly():
    """Returns the behaviours of docs/design/behaviour.md that nothing cites, and those that are
    cited and not there."""
    known = set(re.findall(r"(?m)^- \*\*([A-Z]+[-.][0-9]+(?:-[0-9]+)?)\*\*: ", (ROOT / "docs/design/behaviour.md").read_text()))
    cited = set()
    for name, text in own_text():
        if name != "docs/design/behaviour.md":
            for family, first, last in re.findall(r"\b([A-Z]+)-(\d+) to \1-(\d+)\b", text):
                cited.update(f"{family}-{number}" for number in range(int(first), int(last) + 1))
            cited.update(re.findall(r"\b(?:[A-Z]+-\d+|[A-Z]\.\d+(?:-\d+)?)\b", text))
    unknown = {code for code in cited - known if "-" in code and code.split("-")[0] not in NO_BEHAVIOURS}
    return [f"{code} is not cited" for code in sorted(known - cited)] + [f"{code} is not known" for code in sorted(unknown)]


def looks_beside_the_doors(crates):
    """Returns the looks of reporting programs that note no refusal, and the exceptions that are not
    needed any more."""
    unused, found = set(OTHER_LOOKS), []
    for path, text in ((path, text) for crate in REPORTING for path, text in crates[crate].items()):
        name = name_of(path).removeprefix("crates/")
        for number, line in enumerate(text.split("\n"), 1):
            if LOOK.search(line) and not line.startswith("use "):
                unused.discard(name)
                if name not in OTHER_LOOKS:
                    found.append(f"{name}:{number}: {line.strip()}")
    return found + [f"{name} needs no exception any more" for name in sorted(unused)]


def parts_that_are_open(files):
    """Returns the fields of the supervisor's parts that others can touch, and too many parts."""
    text = {path.relative_to(ROOT / "crates/init/src").as_posix(): text for path, text in files.items()}
    fields = lambda name, text: re.search(rf"(?ms)^(?:pub\S* )?struct {name}\b[^;]*?\{{\n(.*?)^\}}", text)
    parts = re.findall(r"(\w+): (\w+)", fields("Supervisor", text["supervisor/parts.rs"]).group(1))
    found = [f"{len(parts)} parts, and not {PARTS}"] if len(parts) > PARTS else []
    for name, kind in parts:
        for file, body in ((file, fields(kind, body)) for file, body in text.items() if file != "supervisor/parts.rs"):
            open_fields = re.findall(r"pub\S* (\w+):", body.group(1)) if body else []
            found += [f"{name}.{field} in {file}" for field in open_fields]
        tuples = (file for file, body in text.items() if re.search(rf"(?m)^(?:pub\S* )?struct {kind}\([^;]*\bpub\b", body))
        found += [f"{name}.0 in {file}" for file in tuples]
    return found


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
    report.rule("circles of imports and of calls of own methods", [" ↔ ".join(map(name_of, group)) for group in groups])
    report.rule("retired words in names", retired_names())
    report.rule("retired phrases in texts", [f"{place}: {phrase}" for place, phrase in phrases()])
    report.rule("type names with two meanings", types_with_two_meanings(crates))
    report.rule("comments that only repeat a name", empty_comments())
    report.rule("messages with runs of blanks", messages_with_runs_of_blanks())
    report.rule("exit codes that are written as numbers", exit_codes_as_numbers())
    report.rule("uncited or unknown behaviours", codes_cited_wrongly())
    report.rule("fields of the supervisor's parts that others can touch", parts_that_are_open(crates["init"]))
    report.rule("looks of which a refusal is not noted", looks_beside_the_doors(crates))
    report.rule(f"comments of more than {COMMENT_COLUMNS} columns", wide_comments())
    report.rule(f"lines of documents of more than {COMMENT_COLUMNS} columns", wide_documents())

    lengths = sorted(
        (length, f"{name} in {name_of(path)}")
        for files in crates.values()
        for path, text in files.items()
        for name, length in functions(text)
    )
    report.say(f"functions: {len(lengths)}, median {lengths[len(lengths) // 2][0]} lines, longest {lengths[-1][0]}: {lengths[-1][1]}")
    broken = [f"{n} {place}" for n, place in reversed(lengths) if n > TABLES.get(place, FUNCTION_LINES)]
    report.rule(f"functions of more than {FUNCTION_LINES} lines, but for {len(TABLES)} tables", broken)
    long = [(text.count("\n"), name_of(path)) for files in crates.values() for path, text in files.items()]
    over = sorted((pair for pair in long if pair[0] > FILE_LINES), reverse=True)
    report.rule(f"files of more than {FILE_LINES} lines without their tests", [f"{n} {name}" for n, name in over])
    code = {crate: sum(1 for text in files.values() for line in text.split("\n") if line.strip()) for crate, files in crates.items()}
    report.say(f"lines of code: {sum(code.values())}")
    report.say("    " + ", ".join(f"{crate} {n}" for crate, n in sorted(code.items(), key=lambda item: -item[1])))
    return int(asked.check and report.failed)


if __name__ == "__main__":
    sys.exit(main())
