//! What the supervisor and the log daemon say to each other.
//!
//! *Lives here:* the bytes. *Does not live here:* the socket and the pipe, and the descriptors that travel along.
//!
//! The supervisor sends packets over a socket. The daemon belongs to a user whom nobody must trust, so what it answers goes
//! through a pipe, which can carry bytes and nothing else.
//!
//! | bytes | from | meaning |
//! |---|---|---|
//! | `V` | supervisor | answer into this pipe (first descriptor) |
//! | `A` id name | supervisor | take the pipe (first descriptor) of this service (its directory is the second; a third is the pipe of its standard error) |
//! | `U` id name | supervisor | take the pipe of what this service prints beside any log: it is only shown, labelled |
//! | `R` id | supervisor | the slot is gone: drain the pipe, close it, answer `R` id |
//! | `Q` | supervisor | there are no more writers: drain everything and end |
//! | `R` id | daemon | released |
//! | `W` and four zeros | daemon | it works: from now on it takes what comes |
//!
//! An id is four bytes, little endian. The end of the socket means `Q`.

/// Longest packet in bytes.
pub(crate) const MAX_PACKET: usize = 512;

/// What the supervisor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order<'a> {
    /// Take the pipe of a service.
    Take {
        /// Names the pipe from now on.
        id: u32,
        /// The service's name.
        name: &'a [u8],
    },
    /// Take the pipe of what a service prints beside any log.
    Show {
        /// Names the pipe from now on.
        id: u32,
        /// The service's name.
        name: &'a [u8],
    },
    /// Let go of a pipe.
    Release {
        /// The pipe's id.
        id: u32,
    },
    /// Let go of everything and end.
    Quit,
    /// Answer into the pipe that came along.
    ReplyPipe,
}

impl<'a> Order<'a> {
    /// Returns the order in a packet, or `None` if it is none.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (tag, rest) = packet.split_first()?;
        match (tag, rest.split_first_chunk()) {
            (b'A', Some((id, name))) if !name.is_empty() => {
                Some(Self::Take { id: u32::from_le_bytes(*id), name })
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

/// Returns the bytes that say that a pipe is released.
pub(crate) const fn released(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_le_bytes();
    [b'R', a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_mean_what_the_table_says() {
        let table: [(&[u8], Option<Order<'_>>); 15] = [
            (b"A\x02\x01\0\0gateway-coder", Some(Order::Take { id: 258, name: b"gateway-coder" })),
            (b"A\x02\x01\0\0", None),
            (b"A\x02\x01", None),
            (b"U\x02\x01\0\0web", Some(Order::Show { id: 258, name: b"web" })),
            (b"U\x02\x01\0\0", None),
            (b"R\xff\xff\xff\xff", Some(Order::Release { id: u32::MAX })),
            (b"R\xff\xff\xff\xffx", None),
            (b"R\xff", None),
            (b"Q", Some(Order::Quit)),
            (b"Qx", None),
            (b"V", Some(Order::ReplyPipe)),
            (b"V\0", None),
            (b"Q\0\0\0\0", None),
            (b"", None),
            (b"X", None),
        ];
        for (packet, order) in table {
            assert_eq!(Order::parse(packet), order, "{}", packet.escape_ascii());
        }
        assert_eq!(Order::parse(&released(7)), Some(Order::Release { id: 7 }));
    }
}
