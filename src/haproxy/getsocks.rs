//! The pure part of `_getsocks`, the protocol by which a new HAProxy fetches listening sockets (`-x`).
//!
//! One exchange on a unix stream socket, native byte order throughout (v1.8.0:src/cli.c:1234-1411,
//! v3.5-dev5:src/sock.c:469-781): the new one sends [`REQUEST`]; the server answers [`count`], alone in its own
//! message; then for each batch of at most [`BATCH`] descriptors one `sendmsg` with the descriptors in SCM_RIGHTS
//! and [`records`] as data, after which the new one sends [`ack`]. Both sides give up after 1 s of silence.
//!
//! The bytes are made here; the os floor moves them and the descriptors.

use super::version::Version;

/// What the new HAProxy asks with.
pub const REQUEST: &[u8] = b"_getsocks\n";

/// The most descriptors in one batch: 253 up to 2.4, 252 from 2.6 on (MAX_SEND_FD). The receiver does not reset
/// its control buffer, so a batch must never be larger than the one before it.
pub const BATCH: usize = 252;

/// A transparent or free-bound listener (LI_O_FOREIGN, v1.8.0:include/types/listener.h).
const FOREIGN: i32 = 0x2;
/// The `v6only` keyword (LI_O_V6ONLY).
const V6ONLY: i32 = 0x400;
/// The `v4v6` keyword (LI_O_V4V6).
const V4V6: i32 = 0x800;

/// The longest namespace or interface name that is sent: the receiver reads the length as a signed char.
const MAX_NAME: usize = 127;

/// What is said about one descriptor that is handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The name of its network namespace as the configuration's `namespace` spells it; empty for none.
    pub namespace: Vec<u8>,
    /// The interface that it is bound to (SO_BINDTODEVICE); empty for none.
    pub interface: Vec<u8>,
    /// Listener options, one of [`variants`].
    pub options: i32,
}

/// The first answer: how many descriptors will come, all batches together.
///
/// None is fatal for 1.8 (see [`Version::zero_sockets_are_fatal`]): then leave `-x` out.
#[must_use]
pub fn count(descriptors: usize) -> [u8; 4] {
    i32::try_from(descriptors).unwrap_or(i32::MAX).to_ne_bytes()
}

/// The data that goes with one batch: a record for each descriptor, in their order.
///
/// A name longer than 127 bytes can't be said and is sent as none; neither the kernel's interface names (15) nor
/// HAProxy's namespace names come near.
#[must_use]
pub fn records(offers: &[Offer]) -> Vec<u8> {
    let mut data = Vec::with_capacity(offers.len() * 6);
    for offer in offers {
        for name in [&offer.namespace, &offer.interface] {
            match u8::try_from(name.len()) {
                Ok(length) if name.len() <= MAX_NAME => {
                    data.push(length);
                    data.extend_from_slice(name);
                }
                _ => data.push(0),
            }
        }
        data.extend_from_slice(&offer.options.to_ne_bytes());
    }
    data
}

/// What the receiver answers to a batch: how many descriptors it had *before* it (0, 252, 504, …).
#[must_use]
pub fn ack(received_before: usize) -> [u8; 4] {
    count(received_before)
}

/// Which family a socket is of, as far as its options go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv6: `v6only` and `v4v6` matter.
    Inet6,
    /// IPv4, unix and all others.
    Other,
}

/// Whether a socket may bind addresses that are not the host's (IP_TRANSPARENT or IP_FREEBIND).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the host's own addresses.
    Local,
    /// Any address.
    Foreign,
}

/// The option words under which a socket is to be offered, one duplicate each.
///
/// From 2.3 on the word is ignored (a2c17877b) and one 0 does. Up to 2.2 the receiver compares it with the
/// keywords of its own `bind` line, which can't be read off the socket, so every possibility is offered; the
/// receiver closes what it does not use. A receiver that isn't known is treated as an old one.
#[must_use]
pub fn variants(family: Family, reach: Reach, receiver: Option<&Version>) -> Vec<i32> {
    if receiver.is_some_and(|version| !version.wants_listener_options()) {
        return vec![0];
    }
    let foreign = match reach {
        Reach::Local => 0,
        Reach::Foreign => FOREIGN,
    };
    match family {
        Family::Inet6 => vec![foreign, foreign | V6ONLY, foreign | V4V6],
        Family::Other => vec![foreign],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_socket_is_six_zero_bytes() {
        assert_eq!(records(&[Offer::default(), Offer::default()]), [0; 12]);
    }

    #[test]
    fn names_and_options_are_said_with_their_lengths() {
        let offer = Offer { namespace: b"red".to_vec(), interface: b"eth0".to_vec(), options: 0x400 };
        let mut expected = b"\x03red\x04eth0".to_vec();
        expected.extend_from_slice(&0x400_i32.to_ne_bytes());
        assert_eq!(records(&[offer]), expected);
        let endless = Offer { namespace: vec![b'x'; 128], ..Offer::default() };
        assert_eq!(records(&[endless]), [0; 6], "a length byte above 127 would be negative to the receiver");
    }

    #[test]
    fn counts_and_acks_are_native_integers() {
        assert_eq!(count(602), 602_i32.to_ne_bytes());
        assert_eq!(ack(252), 252_i32.to_ne_bytes());
        assert_eq!(count(usize::MAX), i32::MAX.to_ne_bytes());
    }

    #[test]
    fn only_receivers_up_to_2_2_are_offered_every_variant() {
        let old: Version = "2.2.9".parse().expect("a version");
        let new: Version = "2.6.12".parse().expect("a version");
        assert_eq!(variants(Family::Inet6, Reach::Local, Some(&old)), [0, 0x400, 0x800]);
        assert_eq!(variants(Family::Inet6, Reach::Foreign, Some(&old)), [0x2, 0x402, 0x802]);
        assert_eq!(variants(Family::Other, Reach::Local, Some(&old)), [0]);
        assert_eq!(variants(Family::Other, Reach::Foreign, None), [0x2]);
        assert_eq!(variants(Family::Inet6, Reach::Foreign, Some(&new)), [0]);
    }
}
