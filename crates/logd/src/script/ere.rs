//! Translates POSIX extended regular expressions, as glibc reads them, for the crate `regex`.
//!
//! *Lives here:* the translation, byte by byte, in the C locale. *Does not live here:* matching.
//!
//! The only question is whether a line matches, so the longest-match rule makes no difference.
//! Back-references, which glibc knows in extended expressions although POSIX does not, are refused.
//! So are collating elements of several letters.
//!
//! **Source:** POSIX.1-2017, Base Definitions 9.4; glibc `RE_SYNTAX_POSIX_EXTENDED`.

use std::fmt::Write as _;

/// The largest number in an interval.
const MOST_REPEATS: u32 = 0x7fff;
/// How deeply groups may be nested.
const DEEPEST: u32 = 200;

/// Returns the expression in the syntax of the crate `regex`, or `None` if it is invalid.
pub(super) fn translate(expression: &[u8]) -> Option<String> {
    let mut reader = PatternReader { rest: expression, depth: 0 };
    let mut out = String::new();
    reader.alternatives(&mut out)?;
    reader.rest.is_empty().then_some(out)
}

struct PatternReader<'a> {
    rest: &'a [u8],
    depth: u32,
}

/// The unit that a repetition follows.
enum Atom {
    Repeatable(String),
    Anchor(&'static str),
}

impl PatternReader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn eat(&mut self, expected: &[u8]) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn alternatives(&mut self, out: &mut String) -> Option<()> {
        loop {
            self.sequence(out)?;
            if !self.eat(b"|") {
                return Some(());
            }
            out.push('|');
        }
    }

    fn sequence(&mut self, out: &mut String) -> Option<()> {
        loop {
            match self.peek() {
                None | Some(b'|') => return Some(()),
                // A closing parenthesis without an opening one stands for itself.
                Some(b')') if self.depth > 0 => return Some(()),
                Some(_) => match self.atom()? {
                    Atom::Anchor(anchor) => out.push_str(anchor),
                    Atom::Repeatable(atom) => out.push_str(&self.repeated(atom)?),
                },
            }
        }
    }

    fn atom(&mut self) -> Option<Atom> {
        let atom = match self.next()? {
            b'^' => return Some(Atom::Anchor("^")),
            b'$' => return Some(Atom::Anchor("$")),
            b'.' => ".".to_owned(),
            b'[' => self.bracket()?,
            b'(' => {
                self.depth = self.depth.checked_add(1).filter(|depth| *depth <= DEEPEST)?;
                let mut group = "(?:".to_owned();
                self.alternatives(&mut group)?;
                self.depth = self.depth.checked_sub(1)?;
                if !self.eat(b")") {
                    return None;
                }
                group.push(')');
                group
            }
            b'\\' => match self.next()? {
                b'b' => return Some(Atom::Anchor(r"\b")),
                b'B' => return Some(Atom::Anchor(r"\B")),
                b'<' => return Some(Atom::Anchor(r"\b{start}")),
                b'>' => return Some(Atom::Anchor(r"\b{end}")),
                b'`' => return Some(Atom::Anchor(r"\A")),
                b'\'' => return Some(Atom::Anchor(r"\z")),
                b'w' => "[0-9A-Za-z_]".to_owned(),
                b'W' => "[^0-9A-Za-z_]".to_owned(),
                b's' => r"[\t-\r ]".to_owned(),
                b'S' => r"[^\t-\r ]".to_owned(),
                b'1'..=b'9' => return None,
                other => byte(other),
            },
            // There is nothing to repeat.
            b'*' | b'+' | b'?' | b'{' => return None,
            other => byte(other),
        };
        Some(Atom::Repeatable(atom))
    }

    /// Reads the repetitions after an atom. Each is put into a group, because a second sign would
    /// mean something else to `regex`.
    fn repeated(&mut self, mut atom: String) -> Option<String> {
        loop {
            let sign = match self.peek() {
                Some(sign @ (b'*' | b'+' | b'?')) => {
                    self.next()?;
                    char::from(sign).to_string()
                }
                Some(b'{') => {
                    self.next()?;
                    self.interval()?
                }
                _ => return Some(atom),
            };
            atom = format!("(?:{atom}{sign})");
        }
    }

    fn interval(&mut self) -> Option<String> {
        let least = self.count();
        let sign = if self.eat(b",") {
            let most = self.count();
            match (least, most) {
                (None, None) => "{0,}".to_owned(),
                (least, None) => format!("{{{},}}", least?),
                (least, Some(most)) => {
                    let least = least.unwrap_or(0);
                    if least > most {
                        return None;
                    }
                    format!("{{{least},{most}}}")
                }
            }
        } else {
            format!("{{{}}}", least?)
        };
        self.eat(b"}").then_some(sign)
    }

    /// Reads digits. If the number is too large, the interval is refused.
    fn count(&mut self) -> Option<u32> {
        let mut count: Option<u32> = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.next()?;
            let digit = u32::from(digit.wrapping_sub(b'0'));
            count = Some(count.unwrap_or(0).saturating_mul(10).saturating_add(digit));
        }
        count.filter(|count| *count <= MOST_REPEATS)
    }

    /// Reads a bracket expression after its `[`.
    fn bracket(&mut self) -> Option<String> {
        let negated = self.eat(b"^");
        let mut set = [false; 256];
        let mut first = true;
        while first || self.peek()? != b']' {
            first = false;
            if self.eat(b"[:") {
                let holds = class(self.name(b":]")?)?;
                for (value, member) in (0_u8..=u8::MAX).zip(&mut set) {
                    *member |= holds(value);
                }
                continue;
            }
            let is_class = self.rest.starts_with(b"[=");
            let low = self.element()?;
            let mut high = low;
            if let [b'-', end, ..] = self.rest
                && *end != b']'
                && !is_class
            {
                self.next()?;
                if self.rest.starts_with(b"[=") || self.rest.starts_with(b"[:") {
                    return None;
                }
                high = self.element()?;
            }
            if low > high {
                return None;
            }
            for (_, member) in
                (0_u8..=u8::MAX).zip(&mut set).filter(|(value, _)| (low..=high).contains(value))
            {
                *member = true;
            }
        }
        self.next()?;
        Some(class_of(&set, negated))
    }

    /// Reads one element of a bracket expression.
    fn element(&mut self) -> Option<u8> {
        for (open, close) in [(b"[.", b".]"), (b"[=", b"=]")] {
            if self.eat(open) {
                // Even the closing bracket or the sign itself may be written in this way.
                let value = self.next()?;
                return self.eat(close).then_some(value);
            }
        }
        self.next()
    }

    /// Reads up to and including `close`.
    fn name(&mut self, close: &[u8]) -> Option<&[u8]> {
        let end = self.rest.windows(close.len()).position(|window| window == close)?;
        let (name, after) = self.rest.split_at_checked(end)?;
        self.rest = after.strip_prefix(close)?;
        Some(name)
    }
}

/// Returns an expression that matches exactly this byte.
fn byte(value: u8) -> String {
    format!(r"\x{value:02x}")
}

fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"digit" => |b| b.is_ascii_digit(),
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"space" => |b| b.is_ascii_whitespace() || b == 0x0b,
        b"blank" => |b| b == b' ' || b == b'\t',
        b"punct" => |b| b.is_ascii_punctuation(),
        b"print" => |b| b.is_ascii_graphic() || b == b' ',
        b"graph" => |b| b.is_ascii_graphic(),
        b"cntrl" => |b| b.is_ascii_control(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

fn class_of(set: &[bool; 256], negated: bool) -> String {
    let mut out = String::from(if negated { "[^" } else { "[" });
    for (value, _) in (0_u8..=u8::MAX).zip(set).filter(|(_, member)| **member) {
        let _ = write!(out, r"\x{value:02x}");
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use crate::script::Pattern;

    #[test]
    fn expressions_match_as_posix_says() {
        for (expression, matching, other) in [
            ("a", "bab", "bbb"),
            ("^a", "ab", "ba"),
            ("a$", "ba", "ab"),
            ("a.c", "abc", "ac"),
            ("ab*c", "ac", "bc"),
            ("ab+c", "abbc", "ac"),
            ("^ab?c", "ac", "abbc"),
            ("^a{2,3}$", "aaa", "aaaa"),
            ("^a{,2}$", "aa", "aaa"),
            ("^a{2}$", "aa", "a"),
            ("^(ab|cd)+$", "abcd", "abc"),
            ("a||b", "", "\u{1}impossible"),
            ("[a-c]x", "bx", "dx"),
            ("[]x]", "]", "a"),
            ("[^]x]", "a", "]"),
            (r"^[\n]$", r"\", "\n"),
            ("[a-]", "-", "b"),
            ("[[:digit:]]+x", "12x", "x"),
            ("[[.a.]-c]", "b", "d"),
            ("[[=a=]]", "a", "b"),
            ("[a&&b]", "&", "c"),
            ("a)", "a)", "a"),
            (r"\.", ".", "a"),
            (r"\d", "d", "1"),
            (r"\bword\b", "a word", "words"),
            (r"\<word\>", "a word", "words"),
            (r"^\w+$", "a_1", "a b"),
            // Two signs: both count, and neither means lazy or possessive.
            ("^(a+?)$", "", "b"),
            ("^a{2}{2}$", "aaaa", "aaa"),
        ] {
            let pattern = Pattern::new(expression.as_bytes()).unwrap_or_else(|| panic!("{expression}"));
            assert!(pattern.matches(matching.as_bytes()), "{expression} and {matching}");
            assert!(
                other.ends_with("impossible") || !pattern.matches(other.as_bytes()),
                "{expression}, {other}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_bytes() {
        assert!(Pattern::new(b"^a.b$").unwrap().matches(b"a\xffb"));
        assert!(Pattern::new(b"^[\x80-\xff]+$").unwrap().matches("ü".as_bytes()));
        assert!(Pattern::new("ü".as_bytes()).unwrap().matches("für".as_bytes()));
    }

    #[test]
    fn an_invalid_expression_is_refused() {
        for expression in [
            "(",
            "*",
            "+",
            "a|*",
            "(*a)",
            "^*",
            "a{",
            "a{2",
            "a{x}",
            "a{2,1}",
            "a{99999}",
            "[",
            "[a",
            "[z-a]",
            "[[:foo:]]",
            "[[.ab.]]",
            r"\",
            r"(a)\1",
            "[[:alpha:]",
        ] {
            assert!(Pattern::new(expression.as_bytes()).is_none(), "{expression}");
        }
    }
}
