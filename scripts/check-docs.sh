#!/usr/bin/env bash
# Checks what a machine can check about the documents. Names everything that is wrong, and then ends
# with 1.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
failures=0
wrong() {
    say "error: $*"
    failures=$((failures + 1))
}

# Prints the lines between <!-- NAME:begin --> and <!-- NAME:end -->.
block() { sed -n "/<!-- $2:begin -->/,/<!-- $2:end -->/{/<!--/d;p}" -- "$1"; }

# Prints the names of the project's own files: what git would commit, without files that tools
# write.
project_files() {
    # CI may have made the clone as another user, so its owner must not matter.
    git -c safe.directory='*' ls-files --cached --others --exclude-standard -- . ':(exclude,glob)**/Cargo.lock'
}

# Prints the names of the crates.
crates() { printf '%s\n' crates/*/Cargo.toml | cut -d/ -f2 | sort; }

# Checks that ARCHITECTURE.md lists exactly the crates below crates/. A crate is listed as
# `crates/NAME` anywhere, or as NAME/ in a tree below a line that is just crates/.
check_crates() {
    [[ -f ARCHITECTURE.md ]] || {
        wrong 'ARCHITECTURE.md is missing'
        return 0
    }
    local listed real
    listed=$(
        {
            grep -oE 'crates/[a-z0-9_-]+' ARCHITECTURE.md | sed 's,crates/,,' || true
            awk '
                /^crates\/[[:space:]]*$/ { inside = 1; next }
                inside && match($0, /^[ │├└─]+[a-z0-9_-]+\//) {
                    name = substr($0, RSTART, RLENGTH); gsub(/[ │├└─\/]/, "", name); print name; next
                }
                inside && !/^[ │├└─]/ { inside = 0 }' ARCHITECTURE.md
        } | sort -u
    )
    real=$(crates)
    local name
    for name in $(comm -13 <(echo "$listed") <(echo "$real")); do
        wrong "ARCHITECTURE.md does not list crates/$name"
    done
    for name in $(comm -23 <(echo "$listed") <(echo "$real")); do
        wrong "ARCHITECTURE.md lists crates/$name, which does not exist"
    done
}

# Checks that the arrows in ARCHITECTURE.md are those of the manifests, and that every file that it
# names exists.
check_arrows() {
    local crate real path
    real=$(
        for crate in crates/*/; do
            crate=$(basename "$crate")
            printf '%s → %s\n' "$crate" "$(
                awk '/^\[dependencies\]/ { inside = 1; next } /^\[/ { inside = 0 } inside' "crates/$crate/Cargo.toml" |
                    sed -nE 's/^gatevisor-([a-z-]+).*/\1/p' | sort | paste -sd ',' | sed 's/,/, /g'
            )"
        done | sed 's/ $//'
    )
    [[ $(block ARCHITECTURE.md arrows | sed ':a;N;$!ba;s/,\n  */, /g' | grep → | sort) == "$(sort <<<"$real")" ]] ||
        wrong "the arrows between crates in ARCHITECTURE.md are not those of the manifests, which are:
$real"
    while read -r path; do
        # A module may be named without its ending.
        [[ -e $path || -e $path.rs ]] || wrong "ARCHITECTURE.md names $path, which does not exist"
    done < <(
        {
            grep -oE 'crates/[a-z]+/(src|tests)[A-Za-z0-9_/.-]*' ARCHITECTURE.md | sed 's/[.]$//'
            # The drawings name files as `NAME   FILE`, the text as `NAME/FILE`.
            sed -nE "s,.* ($(crates | paste -sd '|')) +([a-z0-9_/]+([.]rs|/)).*,crates/\1/src/\2,p" ARCHITECTURE.md
            grep -oE '`[a-z]+/[a-z0-9_/]+([.]rs|/)?`' ARCHITECTURE.md | sed -nE "s,^\`($(crates | paste -sd '|'))/(src/)?(.*)\`$,crates/\\1/src/\\3,p"
        } | sort -u
    )
}

# Checks that the table of entry points in ARCHITECTURE.md has every internal verb, every name that
# `container_name` knows, and every binary.
check_entry_points() {
    local rows name
    rows=$(sed -n '/^## Entry points/,/^## The crates/{/^|/p}' ARCHITECTURE.md)
    while read -r name; do
        grep -qE "^\|[^|]*(gatevisor |/|\`)$name[ \`]" <<<"$rows" ||
            wrong "the table of entry points in ARCHITECTURE.md lacks $name"
    done < <(
        sed -nE 's/^ +name: "(.*)",$/\1/p' crates/gatevisor/src/internal.rs
        sed -nE 's/^pub const (NAME|BESIDE|COMMAND): &str = "(.*)";$/\2/p' crates/gatevisor/src/{takeover,watch,init}.rs
        sed -n '/^fn container_name/,/^}/{s/^ *\("[^=]*\)=>.*/\1/p}' crates/gatevisor/src/main.rs | grep -oE '[a-z.-]{2,}'
        for name in crates/*/src/main.rs; do sed -nE '/^\[package\]/,/^\[/s/^name = "(.*)"/\1/p' "${name%src/main.rs}Cargo.toml"; done
    )
}

# Prints the header of a Rust file as one line.
header_of() { sed -n 's,^//! \{0\,1\},,p' -- "$1" | paste -sd ' '; }

# Prints the crates whose manifests name the crate $1, as a sorted line.
dependents() {
    local crate
    for crate in $(crates); do
        if sed '/^\[dev-dependencies\]/,$d' "crates/$crate/Cargo.toml" | grep -E "^gatevisor-$1\b" >/dev/null; then
            echo "$crate"
        fi
    done | sort | xargs
}

# The head of each crate says what lives there, what does not, and who may depend on it: each once.
# It names every directory of modules, and exactly the crates that do depend on it.
check_heads() {
    local sources root_file words head directory
    for sources in crates/*/src; do
        root_file=$sources/lib.rs
        [[ -e $root_file ]] || root_file=$sources/main.rs
        for words in 'Lives here:' 'Does not live here:' 'May depend on it:'; do
            (($(grep -c "^//! \*$words\*" "$root_file") == 1)) || wrong "$root_file does not say *$words* exactly once"
        done
        head=$(header_of "$root_file")
        for directory in "$sources"/*/; do
            directory=$(basename "$directory")
            [[ $directory == '*' || $head == *"\`$directory\`"* ]] || wrong "the head of $root_file does not name \`$directory\`"
        done
        check_dependents "$(basename "$(dirname "$sources")")" "$(sed -E 's/.*\*May depend on it:\* ([^.]*)[.].*/\1/' <<<"$head")" "$root_file"
    done
}

# Checks the sentence $2 of the file $3 about who may depend on the crate $1. \`Every crate\`, but
# for those that are named, may depend on some; for all others, the sentence lists who does.
check_dependents() {
    local real named name
    real=$(dependents "$1")
    named=$({
        grep -oE '`[a-z]+`' <<<"$2" | tr -d '\`'
        ! grep -q 'binary' <<<"$2" || echo gatevisor
    } | sort | xargs)
    if [[ $2 == 'every crate'* ]]; then
        for name in $named; do
            [[ " $real " != *" $name "* ]] || wrong "$3 says that $name does not depend on it, and it does"
        done
    elif [[ $1 != gatevisor && $named != "$real" ]]; then
        wrong "$3 says that these depend on it: $named; the manifests say: $real"
    fi
}

# Checks that every `CRATE::MODULE` or `CRATE::MODULE::NAME` that ARCHITECTURE.md or SECURITY.md
# names exists.
check_modules() {
    local name crate module item file
    while read -r name; do
        IFS=: read -r crate _ module _ item _ <<<"$name"
        item=${item%%:*} file=
        for file in "crates/$crate/src/$module.rs" "crates/$crate/src/$module/mod.rs" "crates/$crate/src/lib.rs"; do
            [[ ! -e $file ]] || break
        done
        if [[ $file == */lib.rs ]]; then
            grep -qE "^ *(pub )?(mod|use|fn|struct|enum) .*\b$module\b" "$file"
        else
            [[ -z $item || -e crates/$crate/src/$module/$item.rs || -e crates/$crate/src/$module/$item/mod.rs ]] ||
                grep -qE "\b$item\b" "$file"
        fi || wrong "the module or item $name, which a document names, does not exist"
    done < <(grep -ohE "\`($(crates | paste -sd '|'))::[a-z_:]+\`" ARCHITECTURE.md SECURITY.md | tr -d '`' | sort -u)
}

# Checks that no document names a host of packages, because each machine configures its own.
# (The patterns are written so that they do not match this file.)
check_hosts() {
    local hits
    hits=$(project_files | xargs -r -d '\n' grep -InE \
        'pypi[.]org|pythonhoste[d][.]|crates[.]io|registry[.]npmj[s]|(deb|security)[.]debian[.]org|(archive|ports|security)[.]ubuntu[.]com|proxy[.]golang[.]org|registry[-.][a-z0-9]*[.]?docker[.]' \
        -- 2>/dev/null || true)
    [[ -z $hits ]] || wrong "a package host is named:
$hits"
}

# Prints the anchors of the headings of a document.
anchors() {
    sed -nE 's/^#+ +(.*)/\1/p' -- "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^[:alnum:] _-]//g; s/ /-/g'
}

# Checks that every relative link of a document leads to a file, and to a heading of it if the link
# names one.
check_links() {
    local document link target
    while read -r document; do
        while read -r link; do
            [[ ! $link =~ ^[a-z]+: ]] || continue
            target=$(dirname -- "$document")/${link%%#*}
            [[ $link != '#'* ]] || target=$document
            if [[ ! -e $target ]]; then
                wrong "$document links to $link, which does not exist"
            elif [[ $link == *'#'* && $'\n'$(anchors "$target")$'\n' != *$'\n'"${link#*#}"$'\n'* ]]; then
                wrong "$document links to $link, and that document has no such heading"
            fi
        done < <(grep -oE '\]\([^) ]+\)' -- "$document" | sed -E 's/^\]\(|\)$//g')
    done < <(project_files | grep '[.]md$')
}

# Checks that the blocks of a page below docs/start and docs/guides are files, or commands that
# tests/cli/pages.rs types in, or commands with the reason why not in the line before them.
check_commands() {
    local page finding
    while read -r page; do
        finding=$(awk '
            !inside && /^ *```/ {
                inside = 1
                if ($0 !~ /^```(console|text|toml|json|yaml|ini)$/) print "has a block `" $0 "`; commands are ```console"
                if ($0 == "```console" && previous !~ /^<!-- not run here: .* -->$/) run = 1
                next
            }
            inside && /^ *```/ { inside = 0 }
            { previous = $0 }
            END { if (run) print "RUN" }' "$page")
        if [[ $finding == *RUN ]]; then
            grep -qF "type_in(\"${page#docs/}\")" tests/cli/pages.rs || wrong "no test of tests/cli/pages.rs types what $page says"
        fi
        [[ -z ${finding%RUN} ]] || wrong "$page ${finding%RUN}"
    done < <(project_files | grep -E '^docs/(start|guides)/.*[.]md$')
}

# Checks that docs/README.md links to every page below docs/, and that a page shows every picture.
check_map() {
    local page
    while read -r page; do
        if [[ $page == *.png ]]; then
            grep -qrF --include='*.md' "pictures/${page##*/})" README.md docs || wrong "no page shows $page"
            continue
        fi
        grep -qF "](${page#docs/})" docs/README.md || wrong "docs/README.md does not link to $page"
    done < <(project_files | grep '^docs/.*/')
}

# Prints the rows of the table of exit codes: each code of the one documented enum, and what is
# written above it there.
exit_code_rows() {
    awk '
        /^pub enum Exit / { inside = 1; next }
        inside && /^}/ { exit }
        inside && sub(/^ *\/\/\/ /, "") { text = text (text == "" ? "" : " ") $0 }
        inside && match($0, /= [0-9]+,/) {
            sub(/[.]$/, "", text)
            print "| " substr($0, RSTART + 2, RLENGTH - 3) " | " tolower(substr(text, 1, 1)) substr(text, 2) " |"
            text = ""
        }' crates/wire/src/exit.rs
}

# Checks that the table of exit codes in docs/reference/exit-codes.md is the one that the code has.
check_exit_codes() {
    local rows
    rows=$(exit_code_rows)
    [[ -n $rows && $(block docs/reference/exit-codes.md exit-codes | sed 1,2d) == "$rows" ]] ||
        wrong "the table of docs/reference/exit-codes.md is not that of crates/wire/src/exit.rs:
$rows"
}

# Checks that the pages that say which Rust is needed name that of Cargo.toml.
check_rust_version() {
    local version page
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    for page in README.md docs/start/quick-start.md; do
        grep -qF "Rust $version or newer" "$page" || wrong "$page does not say that it needs Rust $version or newer"
    done
}

# Checks that every test that a document names exists: as `SUITE::MODULE::TEST` or `SUITE::MODULE`
# of a suite in tests/, as `gatevisor-CRATE::MODULE` or `gatevisor-CRATE::MODULE::TEST` of a crate,
# or as `…::MODULE` or `in_a_cell::MODULE`, which is a file of attacks. A name of six words or more
# that stands alone in backticks is a test's, and lacks its suite. ARCHITECTURE.md lists every
# suite.
check_tests() {
    local document name suite module test suites file files
    suites=$(cd tests && printf '%s\n' */main.rs | sed 's,/main.rs,,')
    for suite in $suites; do
        grep -qE "^ *\|.*\`tests/$suite\`" ARCHITECTURE.md || wrong "the table of tests in ARCHITECTURE.md lacks tests/$suite"
    done
    while read -r document; do
        while read -r name; do
            IFS=: read -r suite _ module _ test <<<"$name"
            # A suite of one file has no modules. A group of attacks is a module of a directory.
            [[ -n $test || -e tests/$suite/$module.rs || -d tests/$suite/$module ]] || { test=$module module=main; }
            if [[ -n $test ]]; then
                grep -qsE "fn $test\(" "tests/$suite/$module.rs"
            else
                [[ -e tests/$suite/$module.rs || -d tests/$suite/$module ]]
            fi || wrong "$document names the test $name, which does not exist"
        done < <(grep -oE "\`($(paste -sd '|' <<<"$suites"))::[a-z0-9_:]+\`" -- "$document" | tr -d '`' | sort -u)
        while read -r name; do
            IFS=: read -r suite _ module _ test <<<"${name#gatevisor-}"
            files=()
            for file in "crates/$suite/tests/$module.rs" "crates/$suite/src/$module.rs" "crates/$suite/src/$module"/{mod,tests}.rs; do
                [[ ! -e $file ]] || files+=("$file")
            done
            ((${#files[@]})) && { [[ -z $test ]] || grep -qE "(fn|mod) $test\b" "${files[@]}"; } ||
                wrong "$document names the test $name, which does not exist"
        done < <(grep -oE '`gatevisor-[a-z]+::[a-z0-9_:]+`' -- "$document" | tr -d '`' | sort -u)
        while read -r name; do
            wrong "$document names the test $name without its suite"
        done < <(grep -oE '`[a-z0-9]+(_[a-z0-9]+){5,}`' -- "$document")
        while read -r module; do
            [[ -e tests/hostile/attacks/$module.rs ]] || wrong "$document names the attacks $module, which do not exist"
        done < <(grep -oE '`(in_a_cell|(hostile::)?…)::[a-z0-9_]+`' -- "$document" | tr -d '`' | sed 's/.*:://' | sort -u)
    done < <(project_files | grep '[.]md$')
}

# Checks that docs/design/attacks.md lists no attack twice, as a merge may do, and that SECURITY.md
# names only attacks of the list. (That the list is complete, a test checks.)
check_attacks() {
    local listed name
    listed=$(sed -nE 's/^\| `([a-z0-9-]+)` \|.*/\1/p' docs/design/attacks.md | sort)
    while read -r name; do wrong "docs/design/attacks.md lists $name twice"; done < <(uniq -d <<<"$listed")
    while read -r name; do
        wrong "SECURITY.md names the attack $name, which docs/design/attacks.md does not list"
    done < <(grep -oE '`([a-z0-9]+-){3,}[a-z0-9]+`' SECURITY.md | tr -d '`' | sort -u | comm -23 - <(uniq <<<"$listed"))
}

# Checks that docs/design/behaviour.md explains nothing twice, and that nothing cites a document
# outside of this repository. (`scripts/house.py` checks which behaviours are cited.)
check_codes() {
    local known code place
    known=$(sed -nE 's/^- \*\*([A-Z]+[-.][0-9]+(-[0-9]+)?)\*\*: .*/\1/p' docs/design/behaviour.md | sort)
    [[ -n $known ]] || wrong 'docs/design/behaviour.md explains no behaviour'
    while read -r code; do wrong "docs/design/behaviour.md explains $code twice"; done < <(uniq -d <<<"$known")
    while read -r place; do
        wrong "$place cites a document that is not in this repository"
    done < <(project_files | grep -vx 'scripts/check-docs.sh' | tr '\n' '\0' |
        xargs -0 grep -nIoE "(^|[^_A-Z])(BEHAVIOUR|DESIGN)\\b" | cut -d: -f1,2)
}

# Checks that ARCHITECTURE.md names every crate of others that the manifests name, but for those
# that only tests use.
check_dependencies() {
    local name
    while read -r name; do
        grep -qE "\b${name//-/[-_]}\b" ARCHITECTURE.md || wrong "ARCHITECTURE.md does not name the dependency $name"
    done < <(
        for manifest in crates/*/Cargo.toml; do
            sed -n '/^\[dependencies\]/,/^\[/{s/^\([a-z][a-z0-9_-]*\)[ .=].*/\1/p}' "$manifest" | grep -v '^gatevisor-' || true
        done | sort -u
    )
}

# Checks that README.md mentions every command that the binary's help lists.
check_help() {
    [[ -x target/gatevisor ]] || return 0
    local command
    for command in $(target/gatevisor --help 2>/dev/null | sed -nE '/^Commands:/,/^$/s/^  ([a-z][a-z0-9-]*) .*/\1/p'); do
        [[ $command == help ]] && continue
        grep -q "gatevisor.* $command\b" README.md || wrong "README.md does not mention the command $command"
    done
}

# Checks that README.md shows a table of `make up`, and that the process that it then kills is
# coder's in that table.
check_table() {
    local pid
    pid=$(sed -nE 's/^kill -9 ([0-9]+) .*/\1/p' README.md)
    [[ $(block README.md table) =~ coder\ +[a-z]+\ +$pid\  ]] ||
        wrong "README.md kills process $pid, which is not that of coder in its table"
    [[ $(block README.md table) == *coder* ]] || wrong 'README.md has no table of make up between its table marks'
}

# Checks that no document installs into a directory that may not exist.
check_install() {
    local line
    while IFS= read -r line; do
        wrong "${line%%:*} installs into ~/.local/bin without -D, which fails where there is none"
    done < <(grep -E 'install [^|]*~/\.local/bin' README.md docs -r | grep -v 'install -D')
}

# (`grep -q` would stop reading, and git would die of that.)
[[ -n $(project_files | sed -n '/^Makefile$/p') ]] || wrong 'git cannot list the files of this project'
check_crates
check_arrows
check_entry_points
check_modules
check_heads
check_table
check_install
check_hosts
check_links
check_map
check_commands
check_tests
check_attacks
check_exit_codes
check_rust_version
check_help
check_codes
check_dependencies

((failures == 0)) || die "documents: $failures findings, see above"
say 'documents: fine'
