//! The protocol between the supervisor and its log daemons.
//!
//! *Lives here:* the bytes in both directions, and the descriptors that a daemon inherits.
//! *Does not live here:* the socket and the pipe, the descriptors that accompany messages, and the
//! effects of messages.
//!
//! The supervisor sends packets over a socket. A daemon runs as a user whom nobody must trust, so
//! its replies come through a pipe, which can carry only bytes.
//!
//! | bytes | from | meaning |
//! |---|---|---|
//! | `V` | supervisor | reply into this pipe (first descriptor) |
//! | `A` id name | supervisor | read the pipe (first descriptor) of this service (its directory is the second; a third is the pipe of its standard error) |
//! | `U` id name | supervisor | read the pipe of what this service prints beside any log: it is only shown, labelled |
//! | `R` id | supervisor | the service is gone: drain the pipe, close it, reply `R` id |
//! | `Q` | supervisor | there are no more writers: drain everything and end |
//! | `R` id | daemon | released |
//! | `W` and four zeros | daemon | it works: from now on it takes what comes |
//!
//! An id is four bytes, little endian. The end of the socket means `Q`.

/// The descriptor at which a log daemon finds its socket.
pub const SOCKET_FD: i32 = 3;
/// The descriptor of the memory file for bytes that are in no log file yet.
pub const STAGE_FD: i32 = 4;
/// The descriptor of the memory file that records which service the bytes belong to.
pub const JOURNAL_FD: i32 = 5;

/// The longest packet in bytes.
pub const MAX_PACKET: usize = 512;
/// The size of a reply in bytes.
pub const REPLY_SIZE: usize = 5;

/// A request of the supervisor to a log daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogCommand<'a> {
    /// Send replies into the accompanying pipe.
    ReplyPipe,
    /// Write the output of a service's pipe to the service's log.
    Log {
        /// The pipe's id from now on.
        id: u32,
        /// The service's name, never empty.
        name: &'a [u8],
    },
    /// Show the output of a service's pipe, and write it to no file.
    Show {
        /// The pipe's id from now on.
        id: u32,
        /// The service's name, never empty.
        name: &'a [u8],
    },
    /// Drain a pipe and close it.
    Release {
        /// The pipe's id.
        id: u32,
    },
    /// Drain and close everything, and end.
    Quit,
}

impl<'a> LogCommand<'a> {
    /// Returns the command as a packet.
    pub fn encode(self) -> Vec<u8> {
        let (tag, id, name) = match self {
            Self::ReplyPipe => return vec![b'V'],
            Self::Quit => return vec![b'Q'],
            Self::Log { id, name } => (b'A', id, name),
            Self::Show { id, name } => (b'U', id, name),
            Self::Release { id } => (b'R', id, &[][..]),
        };
        [&[tag], &id.to_le_bytes()[..], name].concat()
    }

    /// Returns the command in a packet, or `None` if it holds none.
    pub fn decode(packet: &'a [u8]) -> Option<Self> {
        let (tag, rest) = packet.split_first()?;
        match (tag, rest.split_first_chunk()) {
            (b'A', Some((id, name))) if !name.is_empty() => {
                Some(Self::Log { id: u32::from_le_bytes(*id), name })
            }
            (b'U', Some((id, name))) if !name.is_empty() => {
                Some(Self::Show { id: u32::from_le_bytes(*id), name })
            }
            (b'R', Some((id, []))) => Some(Self::Release { id: u32::from_le_bytes(*id) }),
            (b'Q', None) if rest.is_empty() => Some(Self::Quit),
            (b'V', None) if rest.is_empty() => Some(Self::ReplyPipe),
            _ => None,
        }
    }
}

/// A message of a log daemon to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogReply {
    /// The daemon works, and accepts commands.
    Works,
    /// The daemon has closed a pipe that it had to release.
    Released {
        /// The pipe's id.
        id: u32,
    },
}

impl LogReply {
    /// Returns the reply as bytes.
    pub const fn encode(self) -> [u8; REPLY_SIZE] {
        let (tag, id) = match self {
            Self::Works => (b'W', 0_u32),
            Self::Released { id } => (b'R', id),
        };
        let [a, b, c, d] = id.to_le_bytes();
        [tag, a, b, c, d]
    }

    /// Returns the reply in these bytes, or `None` if they hold none.
    pub const fn decode(bytes: [u8; REPLY_SIZE]) -> Option<Self> {
        match bytes {
            [b'W', 0, 0, 0, 0] => Some(Self::Works),
            [b'R', a, b, c, d] => Some(Self::Released { id: u32::from_le_bytes([a, b, c, d]) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_mean_what_the_table_says() {
        let table: [(&[u8], Option<LogCommand<'_>>); 15] = [
            (b"A\x02\x01\0\0gateway-coder", Some(LogCommand::Log { id: 258, name: b"gateway-coder" })),
            (b"A\x02\x01\0\0", None),
            (b"A\x02\x01", None),
            (b"U\x02\x01\0\0web", Some(LogCommand::Show { id: 258, name: b"web" })),
            (b"U\x02\x01\0\0", None),
            (b"R\xff\xff\xff\xff", Some(LogCommand::Release { id: u32::MAX })),
            (b"R\xff\xff\xff\xffx", None),
            (b"R\xff", None),
            (b"Q", Some(LogCommand::Quit)),
            (b"Qx", None),
            (b"V", Some(LogCommand::ReplyPipe)),
            (b"V\0", None),
            (b"Q\0\0\0\0", None),
            (b"", None),
            (b"X", None),
        ];
        for (packet, command) in table {
            assert_eq!(LogCommand::decode(packet), command, "{}", packet.escape_ascii());
        }
        assert_eq!(LogReply::Works.encode(), *b"W\0\0\0\0");
        assert_eq!(LogReply::Released { id: 258 }.encode(), *b"R\x02\x01\0\0");
        for none in [*b"W\0\0\0\x01", *b"X\0\0\0\0", *b"\0\0\0\0\0"] {
            assert_eq!(LogReply::decode(none), None, "{}", none.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_command_is_read_as_it_was_said(
            id in any::<u32>(),
            name in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let name = name.as_slice();
            for command in [
                LogCommand::ReplyPipe,
                LogCommand::Log { id, name },
                LogCommand::Show { id, name },
                LogCommand::Release { id },
                LogCommand::Quit,
            ] {
                let packet = command.encode();
                prop_assert!(packet.len() <= MAX_PACKET);
                prop_assert_eq!(LogCommand::decode(&packet), Some(command));
            }
            for reply in [LogReply::Works, LogReply::Released { id }] {
                prop_assert_eq!(LogReply::decode(reply.encode()), Some(reply));
            }
        }

        #[test]
        fn what_is_read_is_said_in_the_same_bytes(packet in any::<Vec<u8>>(), reply in any::<[u8; REPLY_SIZE]>()) {
            if let Some(command) = LogCommand::decode(&packet) {
                prop_assert_eq!(command.encode(), packet);
            }
            if let Some(known) = LogReply::decode(reply) {
                prop_assert_eq!(known.encode(), reply);
            }
        }
    }
}
