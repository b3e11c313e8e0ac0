//! TCP sockets of this machine as `/proc` shows them: who listens on which address, and which
//! process has which socket.
//!
//! *Lives here:* reading the tables, and finding the sockets of one address.
//! *Does not live here:* which process belongs to which service; connecting.
//!
//! **Source:** proc(5), `/proc/net/tcp` and `/proc/PID/fd`; Linux, `net/ipv4/inet_hashtables.c`: of
//! several listeners, the one with the most specific address gets a connection.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in the table.
const LISTENS: &str = "0A";
/// Hexadecimal digits of an IPv4 address in the table.
const V4_DIGITS: usize = 8;
const V6_DIGITS: usize = 32;

/// One TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its own address; a mapped IPv4 address is given as IPv4.
    pub local: SocketAddr,
    /// The address at the other end.
    pub remote: SocketAddr,
    /// Whether it waits for connections.
    pub listens: bool,
    /// The user number of its owner.
    pub uid: u32,
    /// The inode that descriptors of it lead to; 0 if no process has one yet, or any more.
    pub inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?);
        // Skips queues, timers and retransmissions.
        let mut rest = words.skip(3);
        let uid = rest.next()?.parse().ok()?;
        let inode = rest.nth(1)?.parse().ok()?;
        Some(Self { local, remote, listens: state == LISTENS, uid, inode })
    }

    /// Returns how specific a listener's address is with respect to `to`; `None` if connections to
    /// `to` do not reach it.
    fn nearness(&self, to: SocketAddr) -> Option<u8> {
        if !self.listens || self.local.port() != to.port() {
            return None;
        }
        match (self.local.ip(), to.ip()) {
            (own, asked) if own == asked => Some(2),
            (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => Some(1),
            // The socket may be for IPv6 only, which the table does not show. Then another listener
            // is more specific, or there is none.
            (IpAddr::V6(own), _) if own.is_unspecified() => Some(u8::from(to.is_ipv6())),
            _ => None,
        }
    }
}

/// Every TCP socket of this network namespace at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Vec<Socket>);

impl Sockets {
    /// Reads the tables.
    ///
    /// # Errors
    /// There is no such table, for example because there is no `/proc`.
    pub fn now() -> io::Result<Self> {
        let mut sockets = read("/proc/net/tcp")?;
        match read("/proc/net/tcp6") {
            Ok(more) => sockets.extend(more),
            // A machine without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self(sockets))
    }

    /// Returns the sockets that get connections to this address: one, or several that share it.
    pub fn listeners(&self, to: SocketAddr) -> Vec<Socket> {
        let nearest = self.0.iter().filter_map(|socket| socket.nearness(to)).max();
        let is_nearest = |socket: &&Socket| nearest.is_some() && socket.nearness(to) == nearest;
        self.0.iter().filter(is_nearest).copied().collect()
    }

    /// Returns whether any of them listens.
    pub fn any_listens(&self) -> bool {
        self.0.iter().any(|socket| socket.listens)
    }

    /// Returns the sockets that listen on a port, on any address.
    pub fn on_port(&self, port: u16) -> impl Iterator<Item = &Socket> {
        self.0.iter().filter(move |socket| socket.listens && socket.local.port() == port)
    }

    /// Returns whether a socket of this inode is among them.
    pub fn has(&self, inode: u64) -> bool {
        self.0.iter().any(|socket| socket.inode == inode)
    }

    /// Returns the other end of a connection on this machine.
    pub fn other_end(&self, ours: SocketAddr, theirs: SocketAddr) -> Option<Socket> {
        self.0.iter().find(|socket| (socket.local, socket.remote) == (theirs, ours)).copied()
    }
}

/// Returns the inodes of the sockets that a process has descriptors of.
///
/// # Errors
/// We have no right to look into the process, or it has ended.
pub fn of_process(pid: i32) -> io::Result<BTreeSet<u64>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?;
    // A descriptor that is closed meanwhile is left out.
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.filter_map(|link| inode_of(link.to_str()?)).collect())
}

fn inode_of(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn read(table: &str) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for line in BufReader::new(File::open(table)?).lines().skip(1) {
        sockets.extend(Socket::parse(&line?));
    }
    Ok(sockets)
}

/// Does the same as [`address_as_written`]; a mapped IPv4 address is given as IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let address = address_as_written(text)?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Parses `ADDRESS:PORT` as the kernel writes it: each group of four bytes is a number in this
/// machine's byte order.
pub fn address_as_written(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |n: usize| {
        let start = n.checked_mul(V4_DIGITS)?;
        let digits = address.get(start..start.checked_add(V4_DIGITS)?)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        V4_DIGITS => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        V6_DIGITS => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn own() -> BTreeSet<u64> {
        of_process(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn the_tables_are_read_as_the_kernel_writes_them() {
        let line = "   5: 0100007F:21C2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 98765 1 0 100";
        if cfg!(target_endian = "little") {
            let socket = Socket::parse(line).unwrap();
            assert_eq!((socket.local, socket.listens), ("127.0.0.1:8642".parse().unwrap(), true));
            assert_eq!((socket.uid, socket.inode), (1000, 98765));
            let mapped = "0000000000000000FFFF00000100007F:0050";
            assert_eq!(address(mapped), Some("127.0.0.1:80".parse().unwrap()));
            let own = "00000000000000000000000001000000:0050";
            assert_eq!(address(own), Some("[::1]:80".parse().unwrap()));
        }
        for wrong in ["", "sl local_address rem_address", "1: x:y z:w 0A a b c d e f", "1: 01:02 01:02 0A"] {
            assert_eq!(Socket::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_listener_and_both_ends_of_a_connection_are_found_and_are_this_processs() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let to: IpAddr = if address.starts_with("[::1") {
                Ipv6Addr::LOCALHOST.into()
            } else {
                Ipv4Addr::LOCALHOST.into()
            };
            let client = TcpStream::connect((to, port)).unwrap();
            let accepted = listener.accept().unwrap();
            let sockets = Sockets::now().unwrap();
            let found = sockets.listeners(SocketAddr::new(to, port));
            assert!(found.len() == 1 && own().contains(&found[0].inode), "{address}: {found:?}");
            let (ours, theirs) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let end = sockets.other_end(ours, theirs).unwrap();
            assert!(own().contains(&end.inode), "{address}: {end:?}");
            drop((client, accepted));
        }
    }

    #[test]
    fn of_several_listeners_the_one_that_is_bound_most_closely_gets_a_connection() {
        let listener = |local: &str, inode| Socket {
            local: local.parse().unwrap(),
            remote: "0.0.0.0:0".parse().unwrap(),
            listens: true,
            uid: 0,
            inode,
        };
        let connected = Socket { listens: false, ..listener("127.0.0.1:80", 9) };
        let all = [
            listener("[::]:80", 1),
            listener("0.0.0.0:80", 2),
            listener("127.0.0.1:80", 3),
            listener("127.0.0.1:80", 4),
            listener("127.0.0.1:81", 5),
            connected,
            listener("[::]:82", 6),
        ];
        let reached = |to: &str, all: &[Socket]| {
            let found = Sockets(all.to_vec()).listeners(to.parse().unwrap());
            found.iter().map(|socket| socket.inode).collect::<Vec<_>>()
        };
        assert_eq!(reached("127.0.0.1:80", &all), [3, 4]);
        assert_eq!(reached("127.0.0.2:80", &all), [2]);
        assert_eq!(reached("[::1]:80", &all), [1]);
        assert_eq!(reached("127.0.0.1:82", &all), [6]);
        assert_eq!(reached("127.0.0.1:83", &all), [0_u64; 0]);
    }
}
