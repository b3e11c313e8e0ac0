//! The bytes of the file that keeps the samples.
//!
//! *Lives here:* its layout, which never moves a sample: a head with the names, and then one record
//! of fixed size for each minute of 24 hours. *Does not live here:* the file.
//!
//! All numbers have their lowest byte first.
//!
//! ```text
//! head    8 bytes   GVHIST01
//!         4         how many gateways there is room for
//!         4         a checksum of the names
//!         256 each  since when (minutes since 1970, 4 bytes), length (1), name (251)
//! record  4         the minute, since 1970
//!         4         a checksum of the rest and of the minute
//!         6 each    state + 1, or 0 for nothing (1), cpu (2), memory in units of 64 kB (3)
//! ```
//!
//! The record of a minute is at that minute modulo 1440. It counts only if its checksum is right
//! and its minute is one of the last 1440. So a torn write, a changed clock, and a time without a
//! server are gaps, and nothing has to be erased. The head never changes: new names need a new
//! file.

use super::{HistorySample, MINUTES, SampledState};

const MAGIC: &[u8; 8] = b"GVHIST01";
/// The bytes of the head before the names.
const HEAD: usize = 16;
/// The bytes of a name with what belongs to it.
const NAME: usize = 256;
/// The most bytes of a name itself.
const NAME_BYTES: usize = NAME - 5;
/// The bytes of a record before the samples.
const RECORD_HEAD: usize = 8;
/// The bytes of a sample.
const SAMPLE: usize = 6;
/// There is room for a multiple of so many gateways.
const STEP: usize = 10;
/// The most gateways that have a history.
const MOST: usize = 500;
/// The bytes of a file with room for as many gateways as one can have.
pub const MOST_FILE_BYTES: usize = file_bytes(MOST);
/// What memory is counted in, in bytes.
const MEMORY_UNIT: u64 = 64 << 10;
/// Stands for what nobody knows.
const NO_CPU: u16 = u16::MAX;
const NO_MEMORY: u32 = (1 << 24) - 1;

/// Why a file is not one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Another program wrote it, or another version of this one.
    #[error("it does not begin as such a file does")]
    Foreign,
    /// It is shorter or longer than its head says.
    #[error("it does not have the length that its head says")]
    WrongLength,
    /// Its names are not what was written.
    #[error("its names are damaged")]
    Damaged,
}

const fn record_bytes(room: usize) -> usize {
    RECORD_HEAD + room * SAMPLE
}

const fn file_bytes(room: usize) -> usize {
    HEAD + room * NAME + MINUTES as usize * record_bytes(room)
}

/// Whose samples are where in a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingNames {
    /// The name in each place, and the minute since when it is there.
    places: Vec<Option<(String, u32)>>,
}

impl RingNames {
    /// Returns the place of a gateway, and since when it has that.
    fn find(&self, name: &str) -> Option<(usize, u32)> {
        let of = |place: &Option<(String, u32)>| {
            place.as_ref().filter(|(known, _)| known == name).map(|(_, since)| *since)
        };
        self.places.iter().enumerate().find_map(|(at, place)| Some((at, of(place)?)))
    }

    /// Returns the names for these gateways, if others are needed for them. Each one keeps its
    /// place. A new one gets a free place, or that of a gateway that is not there any more. A
    /// gateway without a place has no history.
    pub fn with(&self, gateways: &[&str], minute: u32) -> Option<Self> {
        let mut places = self.places.clone();
        // A place from a time that has not come yet is that of a clock that was wrong.
        for place in
            places.iter_mut().filter(|place| place.as_ref().is_some_and(|(_, since)| *since > minute))
        {
            *place = None;
        }
        let has_place = |name: &str| places.iter().flatten().any(|(known, _)| known == name);
        let is_new = |name: &&&str| !has_place(name) && name.len() <= NAME_BYTES;
        let mut new: Vec<&str> = gateways.iter().filter(is_new).copied().collect();
        let is_gone = |place: &Option<(String, u32)>| {
            place.as_ref().is_none_or(|(name, _)| !gateways.contains(&name.as_str()))
        };
        let kept = places.iter().filter(|place| !is_gone(place)).count();
        let room = (kept + new.len()).next_multiple_of(STEP).max(places.len()).min(MOST);
        new.truncate(room.saturating_sub(kept));
        if new.is_empty() {
            return None;
        }
        places.resize(room, None);
        // Those that are free come before those of gateways that may come back.
        let free = |places: &[Option<(String, u32)>]| {
            let none = places.iter().position(Option::is_none);
            none.or_else(|| places.iter().position(is_gone))
        };
        for name in new {
            let at = free(&places)?;
            *places.get_mut(at)? = Some((name.to_owned(), minute));
        }
        Some(Self { places })
    }

    /// Returns the record of a minute with these samples. Whoever has no place is left out.
    pub fn record(&self, minute: u32, samples: &[(String, HistorySample)]) -> Vec<u8> {
        let mut record = vec![0; record_bytes(self.places.len())];
        for (name, sample) in samples {
            let Some((at, _)) = self.find(name) else { continue };
            let begin = RECORD_HEAD + at * SAMPLE;
            if let Some(place) = record.get_mut(begin..begin + SAMPLE) {
                place.copy_from_slice(&encoded(sample));
            }
        }
        seal(&mut record, minute);
        record
    }

    /// Returns where the record of a minute is in the file.
    pub fn offset(&self, minute: u32) -> u64 {
        let room = self.places.len();
        let slot = usize::try_from(minute % MINUTES).unwrap_or_default();
        u64::try_from(HEAD + room * NAME + slot * record_bytes(room)).unwrap_or_default()
    }
}

/// Writes the minute and the checksum of a record.
fn seal(record: &mut [u8], minute: u32) {
    let Some((head, rest)) = record.split_at_mut_checked(RECORD_HEAD) else { return };
    let sum = checksum(&[&minute.to_le_bytes(), rest]);
    let (at, place) = head.split_at_mut(4);
    at.copy_from_slice(&minute.to_le_bytes());
    place.copy_from_slice(&sum.to_le_bytes());
}

/// Returns FNV-1a, folded to 32 bits: it finds what was torn, and is no defence against anybody.
///
/// **Source:** <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn checksum(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    u32::try_from((sum >> 32) ^ (sum & 0xffff_ffff)).unwrap_or_default()
}

fn encoded(sample: &HistorySample) -> [u8; SAMPLE] {
    let cpu = sample.cpu_permille.map_or(NO_CPU, |cpu| u16::try_from(cpu).unwrap_or(NO_CPU).min(NO_CPU - 1));
    let units = |bytes: u64| u32::try_from(bytes / MEMORY_UNIT).unwrap_or(NO_MEMORY).min(NO_MEMORY - 1);
    let memory = sample.memory_bytes.map_or(NO_MEMORY, units);
    let ([cpu0, cpu1], [memory0, memory1, memory2, _]) = (cpu.to_le_bytes(), memory.to_le_bytes());
    [sample.state.0.saturating_add(1), cpu0, cpu1, memory0, memory1, memory2]
}

fn decoded(bytes: &[u8]) -> Option<HistorySample> {
    let [state, cpu0, cpu1, memory0, memory1, memory2] = *bytes else { return None };
    let state = SampledState::numbered(state.checked_sub(1)?)?;
    let cpu = u16::from_le_bytes([cpu0, cpu1]);
    let memory = u32::from_le_bytes([memory0, memory1, memory2, 0]);
    Some(HistorySample {
        state,
        cpu_permille: (cpu != NO_CPU).then(|| u32::from(cpu)),
        memory_bytes: (memory != NO_MEMORY).then(|| u64::from(memory) * MEMORY_UNIT),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    names: RingNames,
    bytes: Vec<u8>,
}

impl Default for Ring {
    /// Returns the file of nobody.
    fn default() -> Self {
        Self::new(RingNames::default())
    }
}

impl Ring {
    /// Returns the file with these bytes.
    ///
    /// # Errors
    /// It is none, or its head is damaged. Damaged records are no error, but gaps.
    pub fn read(bytes: Vec<u8>) -> Result<Self, RingError> {
        let room = number(&bytes, MAGIC.len()).and_then(|room| usize::try_from(room).ok());
        let room = room.filter(|room| bytes.starts_with(MAGIC) && *room <= MOST).ok_or(RingError::Foreign)?;
        if bytes.len() != file_bytes(room) {
            return Err(RingError::WrongLength);
        }
        let table = bytes.get(HEAD..HEAD + room * NAME).unwrap_or_default();
        if number(&bytes, 12) != Some(checksum(&[table])) {
            return Err(RingError::Damaged);
        }
        let places = table.chunks(NAME).map(|place| {
            let length = usize::from(*place.get(4)?);
            let name = std::str::from_utf8(place.get(5..5 + length)?).ok()?;
            Some((name.to_owned(), number(place, 0)?)).filter(|(name, _)| !name.is_empty())
        });
        Ok(Self { names: RingNames { places: places.collect() }, bytes })
    }

    /// Returns an empty file with these names.
    fn new(names: RingNames) -> Self {
        let room = names.places.len();
        let mut table = Vec::with_capacity(room * NAME);
        for place in &names.places {
            let (name, since) = place.as_ref().map_or(("", 0), |(name, since)| (name.as_str(), *since));
            let end = table.len() + NAME;
            table.extend(since.to_le_bytes());
            table.push(u8::try_from(name.len()).unwrap_or_default());
            table.extend(name.as_bytes());
            table.resize(end, 0);
        }
        let mut bytes = Vec::with_capacity(file_bytes(room));
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(room).unwrap_or_default().to_le_bytes());
        bytes.extend(checksum(&[&table]).to_le_bytes());
        bytes.extend(table);
        bytes.resize(file_bytes(room), 0);
        Self { names, bytes }
    }

    /// Returns a file with these names, and with the samples of this one that still count.
    #[must_use]
    pub fn renamed(&self, names: RingNames, now: u32) -> Self {
        let mut new = Self::new(names);
        for minute in now.saturating_sub(MINUTES - 1)..=now {
            let Some(samples) = self.record(minute) else { continue };
            let kept = self.names.places.iter().zip(samples.chunks(SAMPLE)).filter_map(|(place, sample)| {
                let (name, since) = place.as_ref()?;
                Some((name.clone(), decoded(sample).filter(|_| *since <= minute)?))
            });
            new.put(minute, &kept.collect::<Vec<_>>());
        }
        new
    }

    /// Returns whose samples are where.
    pub const fn names(&self) -> &RingNames {
        &self.names
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts the samples of a minute where they belong.
    pub fn put(&mut self, minute: u32, samples: &[(String, HistorySample)]) {
        let record = self.names.record(minute, samples);
        let begin = usize::try_from(self.names.offset(minute)).unwrap_or(usize::MAX);
        let place = begin.checked_add(record.len()).and_then(|end| self.bytes.get_mut(begin..end));
        if let Some(place) = place {
            place.copy_from_slice(&record);
        }
    }

    /// Returns the samples, each with the worse state of it and of what the minute has already.
    pub fn worst(&self, minute: u32, samples: &[(String, HistorySample)]) -> Vec<(String, HistorySample)> {
        let kept = self.record(minute);
        let of = |(name, sample): &(String, HistorySample)| {
            let known = self.names.find(name).and_then(|place| sample_of(place, minute, kept?));
            let state = known.map_or(sample.state, |known| known.state.or_worse(sample.state));
            (name.clone(), HistorySample { state, ..*sample })
        };
        samples.iter().map(of).collect()
    }

    /// Returns the bytes of the samples of a minute, if they are whole and of no other day.
    fn record(&self, minute: u32) -> Option<&[u8]> {
        let begin = usize::try_from(self.names.offset(minute)).ok()?;
        let record = self.bytes.get(begin..begin + record_bytes(self.names.places.len()))?;
        let samples = record.get(RECORD_HEAD..)?;
        let is_whole = number(record, 4)? == checksum(&[&minute.to_le_bytes(), samples]);
        (is_whole && number(record, 0)? == minute).then_some(samples)
    }

    /// Returns the 24 hours that end with this minute. Each record is checked once, however many
    /// gateways are asked for.
    pub fn day(&self, now: u32) -> RingDay<'_> {
        let minutes = (0..MINUTES).map(|ago| now.checked_sub(MINUTES - 1 - ago));
        let record = |minute| Some((minute, self.record(minute)?));
        RingDay { names: &self.names, records: minutes.map(|minute| minute.and_then(record)).collect() }
    }
}

/// Returns the sample at a place that a gateway has since a minute, from the bytes of a minute.
fn sample_of((at, since): (usize, u32), minute: u32, samples: &[u8]) -> Option<HistorySample> {
    decoded(samples.get(at * SAMPLE..(at + 1) * SAMPLE)?).filter(|_| since <= minute)
}

/// 24 hours of a ring.
#[derive(Debug)]
pub struct RingDay<'a> {
    names: &'a RingNames,
    /// Each minute, the oldest first, with the bytes of its samples if there are any that count.
    records: Vec<Option<(u32, &'a [u8])>>,
}

impl RingDay<'_> {
    /// Returns the samples of a gateway, the oldest first.
    pub fn samples(&self, name: &str) -> Vec<Option<HistorySample>> {
        let found = self.names.find(name);
        let sample = |record: &Option<(u32, &[u8])>| {
            let (minute, samples) = (*record)?;
            sample_of(found?, minute, samples)
        };
        self.records.iter().map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 29_500_000;

    fn sample(word: &str) -> HistorySample {
        let state = SampledState::named(word, false);
        HistorySample { state, cpu_permille: Some(250), memory_bytes: Some(64 << 20) }
    }

    fn named(names: &[&str], word: &str) -> Vec<(String, HistorySample)> {
        names.iter().map(|name| ((*name).to_owned(), sample(word))).collect()
    }

    fn ring(names: &[&str]) -> Ring {
        Ring::new(RingNames::default().with(names, NOW - MINUTES).unwrap())
    }

    /// Returns how many minutes ago there are samples of a gateway, with their states.
    fn known(ring: &Ring, name: &str, now: u32) -> Vec<(usize, &'static str)> {
        let all = ring.day(now).samples(name);
        assert_eq!(all.len(), 1440);
        let ago = all.iter().rev().enumerate();
        ago.filter_map(|(ago, sample)| Some((ago, sample.as_ref()?.state.word()))).collect()
    }

    #[test]
    fn what_is_put_is_found_for_a_day_and_everything_else_is_a_gap() {
        let mut ring = ring(&["a", "b"]);
        ring.put(NOW, &named(&["a"], "ready"));
        ring.put(NOW + 2, &named(&["a", "b"], "unresponsive"));
        let read = Ring::read(ring.bytes().to_vec()).unwrap();
        assert_eq!(read, ring);
        assert_eq!(known(&read, "a", NOW + 2), [(0, "unresponsive"), (2, "ready")]);
        assert_eq!(known(&read, "b", NOW + 2), [(0, "unresponsive")]);
        assert_eq!(known(&read, "c", NOW + 2), []);
        assert_eq!(known(&read, "a", NOW + MINUTES - 1), [(1437, "unresponsive"), (1439, "ready")]);
        assert_eq!(known(&read, "a", NOW + MINUTES), [(1438, "unresponsive")]);
        assert_eq!(known(&read, "a", NOW + 5 * MINUTES), [], "they are of another day");
        assert_eq!(known(&read, "a", NOW - 1), [], "the clock was set back");
        assert_eq!(read.day(NOW).samples("a")[1439], Some(sample("ready")));
    }

    #[test]
    fn a_clock_that_was_ahead_hides_no_later_history() {
        let ahead = NOW + 1_000_000;
        let names = RingNames::default().with(&["a"], ahead).unwrap();
        let later = names.with(&["a"], NOW).unwrap();
        let mut ring = Ring::new(later);
        ring.put(NOW, &named(&["a"], "ready"));
        assert_eq!(known(&ring, "a", NOW), [(0, "ready")]);
    }

    #[test]
    fn a_value_that_nobody_knows_or_that_is_too_large_is_no_other_one() {
        let mut ring = ring(&["a"]);
        let state = SampledState::named("up", false);
        for (minute, cpu, memory, kept) in [
            (NOW, None, None, (None, None)),
            (NOW + 1, Some(0), Some(0), (Some(0), Some(0))),
            (NOW + 2, Some(65_534), Some(3 << 30), (Some(65_534), Some(3 << 30))),
            (NOW + 3, Some(u32::MAX), Some(u64::MAX), (Some(65_534), Some(1_099_511_496_704))),
            (NOW + 4, Some(65_535), Some(70_000), (Some(65_534), Some(65_536))),
        ] {
            let put = HistorySample { state, cpu_permille: cpu, memory_bytes: memory };
            ring.put(minute, &[("a".to_owned(), put)]);
            let found = ring.day(minute).samples("a")[1439].unwrap();
            assert_eq!((found.cpu_permille, found.memory_bytes), kept);
        }
    }

    #[test]
    fn a_write_that_was_torn_is_a_gap_and_harms_no_other_minute() {
        let mut whole = ring(&["a", "b"]);
        for minute in [NOW - 1, NOW, NOW + 1] {
            whole.put(minute, &named(&["a", "b"], "up"));
        }
        let mut before = whole.clone();
        whole.put(NOW, &named(&["a", "b"], "failed"));
        let begin = usize::try_from(whole.names.offset(NOW)).unwrap();
        for written in 0..record_bytes(10) {
            let (old, new) = (&before.bytes[begin..begin + record_bytes(10)], &whole.bytes[begin..]);
            let torn = [&new[..written], &old[written..]].concat();
            let seen = {
                let mut file = before.clone();
                file.bytes[begin..begin + torn.len()].copy_from_slice(&torn);
                known(&Ring::read(file.bytes).unwrap(), "b", NOW + 1)
            };
            let others = [(0, "up"), (2, "up")];
            let expected = [(1, "up"), (1, "failed")]
                .iter()
                .any(|middle| seen == [others[0], *middle, others[1]] || seen == others);
            assert!(expected, "{written}: {seen:?}");
        }
        before.bytes[begin + RECORD_HEAD] ^= 1;
        assert_eq!(known(&before, "a", NOW + 1), [(0, "up"), (2, "up")]);
    }

    #[test]
    fn a_file_of_somebody_else_or_with_a_damaged_head_is_refused() {
        let good = ring(&["a"]).bytes;
        let mut damaged = good.clone();
        damaged[HEAD + 5] = b'b';
        let mut longer = good.clone();
        longer.push(0);
        let mut too_many = good.clone();
        too_many[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        for (bytes, why) in [
            (Vec::new(), RingError::Foreign),
            (b"GVHIST01".to_vec(), RingError::Foreign),
            (b"a log\n".repeat(1000), RingError::Foreign),
            (too_many, RingError::Foreign),
            (good[..good.len() - 1].to_vec(), RingError::WrongLength),
            (longer, RingError::WrongLength),
            (damaged, RingError::Damaged),
        ] {
            assert_eq!(Ring::read(bytes), Err(why));
        }
    }

    #[test]
    fn gateways_keep_their_places_and_a_new_one_never_shows_what_another_did() {
        let mut old = ring(&["a", "b"]);
        old.put(NOW, &named(&["a", "b"], "up"));
        assert_eq!(old.names.with(&["a", "b"], NOW), None);
        assert_eq!(old.names.with(&["b"], NOW), None, "the one that is gone may come back");
        let all: Vec<String> = (0..9).map(|number| format!("new{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).chain(["b"]).collect();
        let names = old.names.with(&all, NOW + 1).unwrap();
        assert_eq!((names.places.len(), names.find("a")), (10, None));
        let mut new = old.renamed(names, NOW + 1);
        assert_eq!(known(&new, "b", NOW + 1), [(1, "up")]);
        new.put(NOW + 1, &named(&all, "ready"));
        for name in &all[..9] {
            assert_eq!(known(&new, name, NOW + 1), [(0, "ready")], "{name}");
        }
        let more = new.names.with(&[&all[..], &["x"]].concat(), NOW + 2).unwrap();
        let more = new.renamed(more, NOW + 2);
        assert_eq!(more.names.places.len(), 20);
        assert_eq!(known(&more, "b", NOW + 2), [(1, "ready"), (2, "up")]);
        assert_eq!(Ring::read(more.bytes().to_vec()).as_ref(), Ok(&more));
    }

    #[test]
    fn a_day_of_100_gateways_takes_less_than_a_megabyte_and_there_is_a_bound() {
        let names = |number: usize| (0..number).map(|at| format!("{at:0>251}")).collect::<Vec<_>>();
        let of = |names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            RingNames::default().with(&names, NOW).unwrap()
        };
        let hundred = Ring::new(of(&names(100)));
        assert!(hundred.bytes().len() < 1_000_000, "{}", hundred.bytes().len());
        let many = of(&names(700));
        assert_eq!(many.places.len(), MOST);
        let all = names(700);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(many.with(&all, NOW), None, "there is no more room");
        assert_eq!(Ring::new(many).bytes().len(), MOST_FILE_BYTES);
        let long = "a".repeat(252);
        assert_eq!(RingNames::default().with(&[&long], NOW), None);
    }
}
