//! A small model of s6-supervise 2.11: which steps make sense now, and which events and which
//! status follow.
//!
//! *Lives here:* the steps and what they lead to. *Does not live here:* how a step is performed.

use std::fmt::Write as _;

/// Every step there is.
pub const ALL: [&str; 31] = [
    "u",
    "d",
    "o",
    "O",
    "U",
    "D",
    "Q",
    "x",
    "p",
    "c",
    "k",
    "t",
    "i",
    "h",
    "q",
    "a",
    "1",
    "2",
    "b",
    "r",
    "y",
    "ready",
    "exit-0",
    "exit-3",
    "exit-255",
    "finish-0",
    "finish-1",
    "finish-125",
    "rescan",
    "vanish",
    "down-signal",
];

/// The finish script of a service: none, one that records its arguments, or one that also waits.
pub const FINISHES: [&str; 3] = ["plain", "told", "gated"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Up,
    Finishing,
}

/// The visible behaviour of s6-supervise 2.11.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of s6's own, and all mixtures occur")]
#[derive(Debug)]
pub struct Model<'a> {
    finish: &'a str,
    phase: Phase,
    wanted: bool,
    last: bool,
    paused: bool,
    ready: bool,
    down_file: bool,
    pub down_signal: u8,
    /// How the last process ended, as the status says it.
    after: String,
    /// Lines in the file `ran`.
    pub ran: usize,
}

impl<'a> Model<'a> {
    pub fn new(finish: &'a str) -> Self {
        Self {
            finish,
            phase: Phase::Down,
            wanted: false,
            last: false,
            paused: false,
            ready: false,
            down_file: true,
            down_signal: 15,
            after: String::new(),
            ran: 0,
        }
    }

    pub fn state(&self) -> String {
        let mut words = match self.phase {
            Phase::Down => "down",
            Phase::Up => "up",
            Phase::Finishing => "finishing",
        }
        .to_owned();
        words.push_str(&self.after);
        for (flag, word) in [
            (self.paused, "paused"),
            (self.wanted, "wanted"),
            (self.ready || self.phase == Phase::Down, "ready"),
        ] {
            if flag {
                write!(words, ", {word}").unwrap();
            }
        }
        words
    }

    fn start(&mut self) -> String {
        self.phase = Phase::Up;
        self.ran += 1;
        "u".to_owned()
    }

    fn begin_anew(&mut self) -> String {
        self.last = false;
        self.after = String::new();
        self.wanted = !self.down_file;
        self.phase = Phase::Down;
        if self.wanted { "s".to_owned() + &self.start() } else { "s".to_owned() }
    }

    fn die(&mut self, after: String) -> String {
        self.after = after;
        self.paused = false;
        self.ready = false;
        self.ran += usize::from(self.finish != "plain");
        if self.finish == "gated" {
            self.phase = Phase::Finishing;
            return "d".to_owned();
        }
        "d".to_owned() + &self.finished("D")
    }

    fn killed(&mut self, signal: u8) -> String {
        self.die(format!(" after signal {signal:x}"))
    }

    fn finished(&mut self, events: &str) -> String {
        self.phase = Phase::Down;
        let next = if self.last {
            "x".to_owned() + &self.begin_anew()
        } else if self.wanted {
            self.start()
        } else {
            String::new()
        };
        events.to_owned() + &next
    }

    fn request(&mut self, step: &str) -> String {
        match step {
            "U" => self.down_file = false,
            "D" | "Q" => self.down_file = true,
            _ => {}
        }
        self.wanted = matches!(step, "u" | "U");
        match (self.phase, step) {
            (Phase::Down, "u" | "U" | "o") => self.start(),
            (Phase::Up, "d" | "D") => self.killed(self.down_signal),
            _ => String::new(),
        }
    }

    /// Returns the events that follow a step, or `None` if the step makes no sense now.
    pub fn step(&mut self, step: &str) -> Option<String> {
        let up = self.phase == Phase::Up;
        let awake = up && !self.paused;
        let signal = match step {
            "h" => 1,
            "i" => 2,
            "q" => 3,
            "b" => 6,
            "k" => 9,
            "1" => 10,
            "2" => 12,
            "a" => 14,
            "t" => 15,
            "r" => self.down_signal,
            _ => 0,
        };
        Some(match step {
            "u" | "d" | "o" | "O" | "U" | "D" | "Q" => self.request(step),
            "x" if self.phase == Phase::Down => "x".to_owned() + &self.begin_anew(),
            "x" => {
                self.last = true;
                String::new()
            }
            "p" | "c" => {
                self.paused = up && step == "p";
                String::new()
            }
            "k" if up => self.killed(9),
            "h" | "i" | "q" | "b" | "1" | "2" | "a" | "t" | "r" if awake => self.killed(signal),
            _ if signal > 0 && up => return None,
            "ready" if awake && !self.ready => {
                self.ready = true;
                "U".to_owned()
            }
            "exit-0" if awake => self.die(String::new()),
            "exit-3" if awake => self.die(" after 3".to_owned()),
            "exit-255" if awake => self.die(" after 255".to_owned()),
            "finish-0" | "finish-1" if self.phase == Phase::Finishing => self.finished("D"),
            "finish-125" if self.phase == Phase::Finishing => {
                self.wanted = false;
                self.finished("OD")
            }
            "vanish" if self.finish != "gated" && !self.last => {
                let mut events = String::new();
                if up {
                    self.last = true;
                    events.push_str("dD");
                    self.paused = false;
                    self.ready = false;
                    self.ran += usize::from(self.finish != "plain");
                }
                events + "x" + &self.begin_anew()
            }
            "down-signal" => {
                self.down_signal = if self.down_signal == 15 { 10 } else { 15 };
                String::new()
            }
            "y" | "rescan" => String::new(),
            _ if signal > 0 => String::new(),
            _ => return None,
        })
    }
}
