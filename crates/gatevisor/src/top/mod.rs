//! `gatevisor top`: a full-screen live view of gateways.
//!
//! *Lives here:* waiting for whatever happens, and carrying out what the view wants.
//! *Does not live here:* what is on the screen and what keys do (`gatevisor_top`), the gateways
//! (`rows`), the terminal (`full_screen`), and the commands behind panes and actions (`job`).
//!
//! States come from events, as for `events`. What no event tells (processor time, memory, whether
//! a supervisor runs) is looked at every two seconds.

mod full_screen;
mod job;
mod rows;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gatevisor_client::ScanDir;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_sys::proc::Process;
use gatevisor_sys::signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH, SignalFd};
use gatevisor_top::{Action, Effect, Input, Look, PaneKind, Schedule, Tone, TopKey, View};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::args::Choice;
use crate::context::CommandContext;
use crate::event_subscriber::EventSubscriber;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::interrupt::{BY_SIGNAL, heeded};
use crate::served_watch::ServedWatch;
use crate::{home_claim, out, status, units};
use full_screen::FullScreen;
use job::Job;
use rows::Gateways;

/// The signals that this process handles.
const SIGNALS: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH];

/// The data of the epoll events: the keyboard, or everything else.
const KEYBOARD: u64 = 0;
const OTHER: u64 = 1;
const SERVED: u64 = 2;

/// Shows the view until the user ends it.
pub fn run(context: &CommandContext, choice: &Choice) -> Outcome {
    if context.json || !full_screen::is_possible() {
        let what = if context.json { "has no JSON" } else { "needs a terminal" };
        let message =
            format!("`top` {what}; `gatevisor status` prints the table, and `gatevisor events` what happens");
        return Err(CommandError::new(Exit::Usage, message));
    }
    let only = status::only(context, choice)?;
    // This comes before any other thread begins, because threads inherit the mask.
    let signals = SignalFd::new(&heeded(&SIGNALS)).map_err(failed("receive signals"))?;
    let served = ServedWatch::new(&context.manager, only.clone());
    let mut top = Top::new(context, only, served, signals)?;
    let mut screen = FullScreen::open()
        .map_err(|error| CommandError::new(Exit::System, format!("cannot draw on the terminal: {error}")))?;
    let outcome = top.run(&mut screen);
    drop(screen);
    outcome
}

fn failed(what: &'static str) -> impl Fn(Errno) -> CommandError {
    move |errno| CommandError::new(Exit::System, format!("cannot {what}: {errno}"))
}

/// What is known of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SupervisorSeen {
    Unknown,
    Gone,
    /// The process number of the supervisor and the tick of its start, if they can be seen.
    Runs(Option<(i32, u64)>),
}

/// The state of the program behind the view.
struct Top<'a> {
    context: &'a CommandContext,
    view: View,
    schedule: Schedule,
    began: Instant,
    gateways: Gateways<'a>,
    subscriber: Option<EventSubscriber>,
    /// The counter of subscriptions at the last look at all gateways.
    subscriptions: u64,
    served: ServedWatch<'a>,
    signals: SignalFd,
    /// An epoll descriptor for everything but the events of gateways.
    others: OwnedFd,
    pane: Option<(PaneKind, Job)>,
    actions: Vec<(Action, String, Job)>,
    supervisor: SupervisorSeen,
    end: Option<u8>,
}

impl<'a> Top<'a> {
    fn new(
        context: &'a CommandContext,
        only: Vec<ProfileName>,
        served: ServedWatch<'a>,
        signals: SignalFd,
    ) -> Result<Self, CommandError> {
        let others = epoll::create(CreateFlags::CLOEXEC).map_err(failed("wait for keys"))?;
        let look = Look {
            colours: out::is_coloured(),
            unicode: full_screen::shows_unicode(),
            span: units::span,
            size: units::size,
        };
        let title = context.manager.home().root().display().to_string();
        let view = View::new(gatevisor_term::escape::line(&title).into_owned(), look);
        let top = Self {
            context,
            view,
            schedule: Schedule::new(0),
            began: Instant::now(),
            gateways: Gateways::new(context, only),
            subscriber: None,
            subscriptions: 0,
            served,
            signals,
            others,
            pane: None,
            actions: Vec::new(),
            supervisor: SupervisorSeen::Unknown,
            end: None,
        };
        top.add(&full_screen::keyboard(), KEYBOARD).map_err(failed("wait for keys"))?;
        top.add(&top.signals, OTHER).map_err(failed("wait for signals"))?;
        if let Some(served) = top.served.descriptor() {
            top.add(&served, SERVED).map_err(failed("wait for changes"))?;
        }
        Ok(top)
    }

    fn add(&self, descriptor: &impl AsFd, what: u64) -> Result<(), Errno> {
        epoll::add(&self.others, descriptor, EventData::new_u64(what), EventFlags::IN)
    }

    fn run(&mut self, screen: &mut FullScreen) -> Outcome {
        self.resized(screen);
        while self.end.is_none() {
            let wake = self.schedule.due(self.now_ms());
            if wake.look {
                self.look_for_supervisor();
            }
            if wake.sample {
                self.sample();
            }
            if wake.draw {
                self.draw(screen);
            }
            self.wait(screen)?;
        }
        self.end.map_or(DONE, Ok)
    }

    /// Returns the milliseconds since the beginning.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn draw(&mut self, screen: &mut FullScreen) {
        let now = self.now_ms();
        self.view.handle(Input::Tick(now / 1000));
        self.view.handle(Input::Aged(self.gateways.aged(now)));
        // If the terminal cannot be written to, it is gone, and the keyboard reports that.
        let _ = screen.draw(&self.view);
        self.schedule.drawn(self.now_ms());
    }

    /// Checks whether a supervisor runs. Subscribes again if it is another one than before.
    fn look_for_supervisor(&mut self) {
        match self.context.supervisor_running() {
            Ok(true) => {
                let seen = SupervisorSeen::Runs(process_of_supervisor(self.context));
                if self.subscriber.is_none() || self.supervisor != seen {
                    self.supervisor = seen;
                    self.view.handle(Input::Supervisor(None));
                    self.subscribe();
                    self.look_at_all();
                }
            }
            Ok(false) if self.supervisor == SupervisorSeen::Gone => {}
            Ok(false) => {
                self.supervisor = SupervisorSeen::Gone;
                self.subscriber = None;
                let what_to_do = home_claim::what_to_do(self.context);
                self.problem(&format!("no supervisor is running; {what_to_do}"));
                self.look_at_all();
            }
            Err(error) => {
                self.supervisor = SupervisorSeen::Unknown;
                self.problem(&error.message);
            }
        }
        self.schedule.looked(self.now_ms());
    }

    fn subscribe(&mut self) {
        let (scandir, only) = (self.context.manager.scandir(), self.gateways.only().to_vec());
        self.subscriber = match EventSubscriber::open(scandir, only) {
            Ok(mut subscriber) => {
                subscriber.wake_on(self.others.try_clone().ok());
                Some(subscriber)
            }
            Err(error) => {
                self.problem(&error.message);
                None
            }
        };
    }

    /// Samples processor time and memory, of which no event tells.
    fn sample(&mut self) {
        // No event tells that a start is over, where only its watcher or the time shows that.
        let unsettled = self.gateways.unsettled();
        if !unsettled.is_empty() {
            self.look_at(&unsettled);
        }
        let began = self.now_ms();
        let samples = self.gateways.sample(began);
        self.view.handle(Input::Samples(samples));
        let now = self.now_ms();
        self.schedule.sampled(now, now.saturating_sub(began));
    }

    /// Looks at every gateway anew.
    fn look_at_all(&mut self) {
        let now = self.now_ms();
        match self.gateways.look_at_all(now) {
            Ok(()) => {
                let (rows, summary) = (self.gateways.rows(), self.gateways.summary());
                self.take(Input::All(rows, summary));
            }
            Err(error) => self.problem(&error.message),
        }
        self.schedule.happened(now);
    }

    fn problem(&mut self, words: &str) {
        let words = gatevisor_term::escape::line(words).into_owned();
        self.view.handle(Input::Supervisor(Some(words)));
    }

    /// Waits for an event or for the next scheduled work.
    fn wait(&mut self, screen: &mut FullScreen) -> Result<(), CommandError> {
        let wait = Duration::from_millis(self.schedule.wait(self.now_ms()));
        let mut changed = Vec::new();
        if let Some(subscriber) = &mut self.subscriber {
            let received = subscriber.receive(Some(wait), |name, _| {
                if !changed.contains(name) {
                    changed.push(name.clone());
                }
                Ok(())
            });
            if let Err(error) = received {
                self.subscriber = None;
                self.problem(&error.message);
            }
        }
        let at_most = if self.subscriber.is_some() { Duration::ZERO } else { wait };
        let is_served_anew = self.others(at_most, screen)?;
        let subscriptions = self.subscriber.as_ref().map_or(0, EventSubscriber::changes);
        // No event told of what happened before the subscription.
        let are_others = std::mem::replace(&mut self.subscriptions, subscriptions) != subscriptions;
        if are_others || is_served_anew {
            self.look_at_all();
        } else if !changed.is_empty() {
            self.look_at(&changed.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Looks anew at the gateways of these services.
    fn look_at(&mut self, services: &[String]) {
        let now = self.now_ms();
        match self.gateways.look_at(services, now) {
            Some(rows) => {
                let summary = self.gateways.summary();
                self.take(Input::Changed(rows, summary));
                self.schedule.happened(now);
            }
            None => self.look_at_all(),
        }
    }

    /// Handles keys, signals and the output of commands. Returns whether another gateway serves a
    /// profile than before.
    fn others(&mut self, at_most: Duration, screen: &mut FullScreen) -> Result<bool, CommandError> {
        let mut events = Vec::with_capacity(16);
        let time = Timespec::try_from(at_most).ok();
        match epoll::wait(&self.others, rustix::buffer::spare_capacity(&mut events), time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("wait for keys")(errno)),
        }
        let mut is_served_anew = false;
        for event in &events {
            let (what, flags) = (event.data.u64(), event.flags);
            if what == KEYBOARD && flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                self.end = Some(by_signal(SIGHUP));
            } else if what == SERVED {
                is_served_anew = !self.served.take().is_empty();
            }
        }
        if events.is_empty() || self.end.is_some() {
            return Ok(false);
        }
        while let Ok(Some(signal)) = self.signals.next() {
            self.signal(signal, screen);
        }
        for key in full_screen::keys() {
            self.key(key, screen);
        }
        self.read_pane();
        self.read_actions();
        Ok(is_served_anew)
    }

    fn signal(&mut self, signal: i32, screen: &mut FullScreen) {
        match signal {
            SIGWINCH => self.resized(screen),
            SIGCONT => {
                screen.enter_again();
                self.resized(screen);
            }
            SIGTSTP => self.carry_out(vec![Effect::Suspend], screen),
            _ => self.end = Some(by_signal(signal)),
        }
    }

    fn resized(&mut self, screen: &mut FullScreen) {
        let (columns, rows) = screen.resized();
        self.view.handle(Input::Resized { columns, rows });
        self.schedule.typed(self.now_ms());
    }

    fn key(&mut self, key: TopKey, screen: &mut FullScreen) {
        let effects = self.view.handle(Input::Key(key));
        self.schedule.typed(self.now_ms());
        self.carry_out(effects, screen);
    }

    /// Gives an input to the view, if its effects cannot concern the screen.
    fn take(&mut self, input: Input) {
        for effect in self.view.handle(input) {
            if let Effect::Open(kind, name) = effect {
                self.open(kind, &name);
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, screen: &mut FullScreen) {
        for effect in effects {
            match effect {
                Effect::Quit => self.end = Some(Exit::Done.code()),
                Effect::Suspend => {
                    screen.suspend();
                    self.resized(screen);
                }
                Effect::Redraw => {
                    screen.enter_again();
                    self.resized(screen);
                }
                Effect::Open(kind, name) => self.open(kind, &name),
                Effect::ClosePane => self.pane = None,
                Effect::Act(action, name) => match self.begin(action.command(), &name) {
                    Ok(job) => self.actions.push((action, name, job)),
                    Err(words) => self.take(Input::Acted(Tone::Bad, words)),
                },
            }
        }
    }

    /// Starts a command of this program about a gateway.
    fn begin(&self, command: &[&str], name: &str) -> Result<Job, String> {
        let job = Job::begin(self.context, command, name);
        let job = job.and_then(|job| self.add(&job, OTHER).map(|()| job).map_err(Into::into));
        job.map_err(|error| format!("cannot run `gatevisor {}`: {error}", command.join(" ")))
    }

    fn open(&mut self, kind: PaneKind, name: &str) {
        // The previous command must end first, because what it still prints does not belong in this
        // pane.
        self.pane = None;
        match self.begin(kind.command(), name) {
            Ok(job) => self.pane = Some((kind, job)),
            Err(words) => self.take(Input::PaneLines(vec![words])),
        }
    }

    fn read_pane(&mut self) {
        let Some((kind, job)) = &mut self.pane else { return };
        let is_over = job.read();
        let lines = if is_over || !kind.is_report() { job.take_lines() } else { Vec::new() };
        if !lines.is_empty() {
            self.view.handle(Input::PaneLines(lines));
            self.schedule.happened(self.now_ms());
        }
        if is_over {
            self.pane = None;
            self.take(Input::PaneEnded);
            self.schedule.happened(self.now_ms());
        }
    }

    fn read_actions(&mut self) {
        let mut said = Vec::new();
        self.actions.retain_mut(|(action, name, job)| {
            if !job.read() {
                return true;
            }
            let is_done = job.succeeded();
            let words = job.in_one_line().unwrap_or_else(|| format!("{} {name}: done", action.word()));
            said.push(Input::Acted(if is_done { Tone::Good } else { Tone::Bad }, words));
            false
        });
        for input in said {
            self.take(input);
            self.schedule.happened(self.now_ms());
        }
    }
}

/// Returns the process number of the supervisor, with the tick of its start, because a number may
/// be used again.
fn process_of_supervisor(context: &CommandContext) -> Option<(i32, u64)> {
    let pid = ScanDir::new(context.manager.scandir()).holder()?.get();
    Some((pid, Process::of(pid)?.began))
}

fn by_signal(signal: i32) -> u8 {
    u8::try_from(BY_SIGNAL.saturating_add(signal)).unwrap_or(Exit::System.code())
}
